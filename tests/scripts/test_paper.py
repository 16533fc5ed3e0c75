"""The paper's rows and claims: configs and texts agree with them."""

import dataclasses
import functools
import importlib
import math
import re

import jax
import numpy as np
import pytest

from configs import fashion_mnist
from docs import claims
from experiments import evaluate, experiment, saved, sharding
from scripts import costs
from scripts.paper import agreement, examples, results, small, verdicts
from scripts.paper.claims import WITHOUT_VIDEO
from scripts.paper.rows import (
  COMMON,
  FIGURES,
  MISPRINT,
  SMALL_TABLES,
  TABLES,
  title,
)
from scripts.sweep import figures
from tests.conftest import ROOT
from tests.scripts.simulated_sweeps import COMPARED, result

SMALL_CONFIGS = ('fashion_mnist', 'audioset', 'modelnet40')
# The key of each setting that a figure's panel varies.
SETTINGS = {
  'latents': 'model.num_latents',
  'latent channels': 'model.latent_channels',
  'self-attends per block': 'model.num_self_attends',
  'cross-attends': 'model.num_cross_attends',
  'init scale of the latents': 'model.latent_init_scale',
  'bands': 'task.num_bands',
  'maximum resolution': 'task.max_resolution',
}
PANELS = {
  setting: panel
  for panels in FIGURES.values()
  for setting, panel in panels.items()
}


def sweeps(*names):
  """The variants of each sweep of these configs, by its name."""
  return {
    name: set(variants)
    for config in names
    for name, variants in importlib.import_module(
      f'configs.{config}'
    ).SWEEPS.items()
  }


def test_small_sweeps_are_the_rows_and_points():
  expected = {
    f'table{table}': {line.row.small for line in small.lines(table, {})}
    for table in SMALL_TABLES
  }
  for figure, panels in FIGURES.items():
    points = {
      variant for panel in panels.values() for variant in panel.values()
    }
    expected[f'figure{figure}'] = points
  assert sweeps(*SMALL_CONFIGS) == expected
  compared = {name.removesuffix(WITHOUT_VIDEO) for name in COMPARED}
  assert compared <= set().union(*expected.values())
  for config in SMALL_CONFIGS:
    for variants in sweeps(config).values():
      assert {title(x) for x in variants} == {f'{config}:{x}' for x in variants}


def test_sweeps_at_full_size_are_the_rows_and_panels():
  for name, variants in sweeps('imagenet').items():
    if name.startswith('table'):
      rows = TABLES[int(name.removeprefix('table'))].rows
      assert variants == {row.variant for row in rows} - {None}
    else:
      panels = FIGURES[name.removeprefix('figure')].values()
      small_names = {x for panel in panels for x in panel.values()}
      prefixes = {
        x.rpartition('_')[0]
        for x in small_names - set(COMMON.values())
        if x.startswith('fig')
      }
      assert {x.rpartition('_')[0] for x in variants} == prefixes


@pytest.mark.parametrize('setting', PANELS)
def test_points_differ_in_the_setting_alone(setting):
  key = SETTINGS[setting]
  configs = []
  for value, variant in PANELS[setting].items():
    config = saved.flat(fashion_mnist.get_config(variant).to_dict())
    assert config.pop(key) == value
    config.pop('model.num_latent_transformers')  # One for each cross-attend.
    configs.append(config)
  assert all(config == configs[0] for config in configs)


def test_rows_train_alike_in_small():
  keys = (
    *('train.batch_size', 'task.validation_fraction'),
    *('optimizer.name', 'optimizer.schedule'),
    *('task.num_train', 'train.epochs', 'task.flip', 'task.max_shift'),
  )
  common = (32, 1 / 12, 'adamw', 'cosine')
  for name, variants in sweeps('fashion_mnist').items():
    trained = {
      tuple(saved.flat(fashion_mnist.get_config(x).to_dict())[k] for k in keys)
      for x in variants
    }
    images = (None, 3.0, True, 1)
    if name in ('table5', 'table7'):  # What they overfit.
      images = (5_000, 24.0, False, 0)
    assert trained == {(*common, *images)}


# Variants that are no row and no point at full size.
OTHERS = re.compile(
  r'tiny|events_.+|solids|hdf5|(.+_)?resampled|validation|table[34]_.+'
)


def documented(name):
  """A config's module, and the table of its docstring: columns by variant."""
  module = importlib.import_module(f'configs.{name}')
  _, _, text = module.__doc__.partition('\nvariant ')
  found = {}
  for line in text.partition('\n\n')[0].splitlines()[1:]:
    variant, *columns = line.split()
    found['' if variant == '(default)' else variant] = columns
  return module, found


@pytest.mark.parametrize('name', ['imagenet', 'audioset', 'modelnet40'])
def test_a_configs_docstring_has_the_papers_figures(name):
  module, found = documented(name)
  assert found.keys() == {x for x in module.VARIANTS if not OTHERS.fullmatch(x)}
  scores = {variant: '–' for variant in found}
  for table in TABLES.values():
    for row in table.rows:
      if table.config != name or row.variant is None:
        continue
      if row.score is not None:
        scores[row.variant] = str(row.score)
      for column, quantity in ((1, 'M parameters'), (2, 'GFLOPs')):
        if quantity in row.paper and row.note != MISPRINT:
          cost = found[row.variant][column]
          assert cost == str(row.paper[quantity])
  assert {variant: columns[0] for variant, columns in found.items()} == scores


# One row of each kind; the others are like these, or `scripts.tables` has them.
@pytest.mark.slow
@pytest.mark.parametrize(
  ('name', 'variants'),
  [
    ('imagenet', ('', 'resnet50', 'vit_b16', 'transformer64')),
    ('imagenet', ('fig5_latents_64', 'io')),
    ('audioset', ('', 'raw', 'mel', 'video', 'av_mel', 'attention_maps')),
    ('modelnet40', ('', 'resnet50', 'vit_b_patch16', 'transformer44')),
  ],
)
def test_a_configs_docstring_has_the_costs(name, variants):
  module, found = documented(name)
  for variant in variants:
    row = costs.row(module, variant, tflops=400.0)
    assert found[variant][1:] == row.split()[1:]


def test_pages_have_the_papers_figures():
  not_shared, shared = (row.paper for row in TABLES[7].rows)
  flops = f'{shared["GFLOPs"]} GFLOPs'
  parameters = f'{shared["M parameters"]} M parameters'
  for page, text in (
    ('README.md', f'{parameters}, {flops}'),
    ('docs/api.md', parameters),
    ('docs/model.md', flops),
    (
      'docs/model.md',
      f'{parameters}, {not_shared["M parameters"]} M without sharing',
    ),
    ('experiments/RESULTS.md', flops),
  ):
    assert text in (ROOT / page).read_text()


def test_the_pages_have_what_the_results_say():
  known = results.read(results.RESULTS)
  drawn = figures.all_of(known)
  assert claims.page(known, drawn) == claims.PAGE.read_text()
  assert claims.summary(known) == claims.RESULTS.read_text()
  assert drawn == {
    path.name.removeprefix(claims.PREFIX): path.read_bytes()
    for path in claims.PICTURES.glob(f'{claims.PREFIX}*.svg')
  }


@pytest.fixture
def whole():
  """Results of all rows and points, all alike."""
  names = set(COMPARED).union(*sweeps(*SMALL_CONFIGS).values())
  return {title(name): scored(0.8, 3) for name in names}


def scored(score, seeds=1):
  """A result of 1,000 test examples; each seed has ten right ones more."""
  right = 1000 * score + 10 * np.arange(seeds)
  return result(np.arange(1000) < right[:, None])


def test_results_are_kept_beside_those_of_other_variants(tmp_path):
  path = tmp_path / 'results.json'
  assert results.read(path) == {}
  labels = np.array([[True, False], [False, True], [True, True]])
  scores = np.array([[0.2, 0.1], [0.9, 0.1], [0.3, 0.3]])
  several = examples.ranked(
    [{'all_scores': scores, 'all_labels': labels, 'loss': scores[:, 0]}]
  )
  mean = (
    scored(0.6, 3),
    dataclasses.replace(
      scored(0.5), metric='mAP', scores=several.scores(), examples=several
    ),
  )
  results.write(path, {'a': mean[0]})
  results.write(path, {'b': mean[1]})
  found = results.read(path)
  assert found == {'a': mean[0], 'b': mean[1]}
  for kept, given in zip(found.values(), mean, strict=True):
    for name, array in vars(given.examples).items():
      np.testing.assert_array_equal(getattr(kept.examples, name), array)
  files = {x.name: x.read_bytes() for x in tmp_path.iterdir()}
  results.write(path, found)
  assert files == {x.name: x.read_bytes() for x in tmp_path.iterdir()}
  # Both files are one sweep's.
  text = path.read_text()
  path.write_text(text.replace('0.61,', '0.62,'))
  with pytest.raises(
    ValueError, match=r'json and .*npz are of different sweep'
  ):
    results.read(path)
  path.write_text(text)
  (tmp_path / 'results.npz').write_bytes(b'PK')
  with pytest.raises(ValueError, match='npz has no examples of a sweep'):
    results.read(path)
  (tmp_path / 'results.npz').unlink()
  path.write_text('[1]')
  with pytest.raises(ValueError, match='has no results of a sweep'):
    results.read(path)


def test_the_error_of_a_score_is_of_the_examples_and_the_seeds():
  assert scored(0.75).standard_error == pytest.approx(
    math.sqrt(0.75 * 0.25 / 999)
  )
  # The means of three seeds are 1, 2/3, 1/3 or 0.
  means = np.repeat([1, 2 / 3, 1 / 3, 0], [500, 10, 10, 480])
  # For twenty examples one seed in three differs, which the scores have.
  of_seeds = 20 / 1000 * np.var([1, 1, 0], ddof=1) / 3
  variance = (means.var(ddof=1) - of_seeds) / 1000 + 0.01**2 / 3
  assert scored(0.5, 3).standard_error == pytest.approx(math.sqrt(variance))


def test_small_tables_have_the_papers_figures_beside_ours(whole):
  whole['fashion_mnist:table7_not_shared'] = scored(0.75)
  text = small.report(whole, [7])
  error = 100 * scored(0.75).standard_error
  assert (
    '| no weight sharing | `table7_not_shared` | 72.9 | 75.00 ±'
    f' {error:.2f} | 87.7 | 87.50 | 1 | 0.002, **0.005** | 30 |' in text
  )
  assert (
    '`python -m scripts.sweep` (commit c0ffee1, cpu, 1.0 hours of runs)' in text
  )
  text = small.report(whole)
  assert 'not run' not in text
  # The trials at this rate had 81 %.
  assert 'training scored -6.00 to +0.00 points'.replace('-', '−') in text
  for heading in ('Table 2', 'Table 6', 'Figure 5', 'Figure 6'):
    assert f'**{heading} in small**' in text
  summary, table = text.splitlines()[:3:2]
  assert summary == verdicts.summary(verdicts.judge_all(whole))
  assert table.startswith('| Claim | in the paper | here, in points |')
  del whole['fashion_mnist:fig5_latents_8']
  assert '| latents | 8 | not run | |' in small.report(whole)
  with pytest.raises(ValueError, match=r'--table=1: in small there are \[2, 3'):
    small.report(whole, [1])


@pytest.mark.parametrize(
  ('small', 'is_changed'),
  [
    ('table2_perceiver', False),
    ('table2_learned', False),
    ('table2_transformer', False),
    pytest.param('table2_resnet', True, marks=pytest.mark.slow),
    ('table2_vit', True),
  ],
)
def test_permuted_pixels_give_the_same_logits(small, is_changed):
  mesh = sharding.make_mesh(1, jax.devices()[:1])
  runs = [
    experiment.create(fashion_mnist.get_config(name), mesh)
    for name in (small, f'{small}_permuted')
  ]
  state = jax.jit(runs[0].init_state)(jax.random.key(0))
  rng = np.random.default_rng(0)
  batch = {
    name: rng.integers(255, size=x.shape).astype(x.dtype)
    for name, x in runs[0].task.batch_spec(4).items()
  }
  logits = [
    jax.jit(functools.partial(evaluate.predict, run))(
      state.params, state.model_state, batch
    )
    for run in runs
  ]
  difference = np.abs(logits[0] - logits[1]).max() / np.abs(logits[0]).max()
  assert difference > 1e-2 if is_changed else difference < 1e-5


def test_runs_agree_where_both_are_right_or_both_wrong(whole):
  correct = np.arange(1000) < np.array([[500], [510], [530]])
  raw, permuted = 'table2_perceiver', 'table2_perceiver_permuted'
  whole[title(raw)] = result(correct)
  whole[title(permuted)] = result(correct ^ (np.arange(1000) >= 990))
  line = '| Perceiver | 99.0 | 98.0 |'  # 10, 20 and 30 of 1,000 differ.
  assert line in agreement.table(whole)
  other = dataclasses.replace(whole[title(raw)], learning_rate=0.1)
  whole[title(raw)] = other
  assert '| Perceiver | other learning rate | 98.0 |' in agreement.table(whole)
  assert agreement.table({title(raw): other}) == ''


def test_pictures_are_of_what_is_complete(whole):
  drawn = figures.all_of(whole)
  assert set(drawn) == {
    'claims.svg',
    *(f'table{number}.svg' for number in range(2, 8)),
    'figure5.svg',
    'figure6.svg',
  }
  assert all(picture.startswith(b'<?xml') for picture in drawn.values())
  del whole['fashion_mnist:table2_vit'], whole['fashion_mnist:fig6_bands_2']
  assert set(drawn) - set(figures.all_of(whole)) == {
    'table2.svg',
    'figure6.svg',
  }
