"""The paper's tables beside our costs and runs."""

import json

import numpy as np
import pytest

from configs import audioset, imagenet, modelnet40
from experiments import telemetry
from scripts.paper import results, runs
from scripts.paper.rows import COST_TABLES
from scripts.tables import comparison, formats
from tests import commands, quick
from tests.experiments.smoke import edited_config
from tests.scripts import simulated_sweeps

MISPRINT = ('1 at start', 'M parameters')


@pytest.fixture(scope='module', autouse=True)
def each_model_is_traced_once():
  """Caches costs: many of these tests ask for the same models."""
  compute, known = comparison.costs, {}

  def costs(config):
    key = config.to_json()
    if key not in known:
      known[key] = compute(config)
    return known[key]

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(comparison, 'costs', costs)
    yield


@pytest.mark.slow
def test_baselines_have_the_literatures_parameters_and_the_wider_inputs():
  figures = comparison.compare(1)
  parameters = [f for f in figures if f['quantity'] == 'M parameters']
  assert [f['row'] for f in parameters] == ['ResNet-50 (FF)', 'ViT-B/16 (FF)']
  assert all(f['ours'] == f['paper'] for f in parameters)
  assert all('literature' in f['note'] for f in parameters)


@pytest.mark.parametrize('table', quick.only([5], COST_TABLES))
def test_every_cost_is_the_papers_to_the_printed_digit(table):
  for figure in comparison.compare(table):
    if (figure['row'], figure['quantity']) == MISPRINT:
      assert (figure['paper'], figure['ours']) == (41.1, 42.1)
      assert 'misprint' in figure['note']
    else:
      assert figure['ours'] == figure['paper'], figure
      assert not figure['note']
  if table == 6:
    text = formats.text(comparison.compare(table))
    assert len(text.splitlines()) == 1 + 16  # A header; a line each.
    assert 'misprint' in text
    assert '707.2' in text
    assert 'misprint' in formats.markdown(table).splitlines()[-1]


def test_table_5_tells_what_its_last_row_took_here():
  report = json.loads(comparison.MEASURED.read_text())
  (result,) = report['results']
  assert (result['mode'], result['batch_size']) == ('train', 8)
  assert f'{result["peak_bytes"] / 1e9:.1f} GB' in comparison.measured()
  assert report['command'] in comparison.measured()


RECORDS = [(7, 'train', 0.1), (7, 'validation', 0.6789)]


def workdir_of(
  path, variant, module=imagenet, records=RECORDS, metric='top1', **overrides
):
  """Writes a run's directory; records are step, split and metric."""
  config = module.get_config(variant)
  config.update_from_flattened_dict(overrides)
  path.mkdir()
  telemetry.record_launch(str(path), config, 0, [])
  lines = [
    json.dumps({'step': step, 'split': split, metric: value}) + '\n'
    for step, split, value in records
  ]
  (path / telemetry.METRICS).write_text(''.join(lines))
  return str(path)


@pytest.mark.slow
def test_accuracies_are_read_from_the_runs_that_are_given(tmp_path):
  f32 = {'model.compute_dtype': 'float32'}
  known = [
    runs.read_run(workdir_of(tmp_path / 'a', 'resnet50_permuted', **f32)),
    # A model that no row has.
    runs.read_run(workdir_of(tmp_path / 'b', '', **{'task.num_bands': 3})),
  ]
  figures = comparison.compare(2, known)
  ours = {i: f for i, f in enumerate(figures) if f['ours'] is not None}
  assert list(ours) == [1]
  assert ours[1]['row'] == '  permuted'
  assert (ours[1]['paper'], ours[1]['ours']) == (39.4, 67.9)
  assert ours[1]['difference'] == 28.5
  assert 'step 7 of 150137' in ours[1]['note']
  text = formats.text(comparison.compare(1, known))
  assert text.count('not run ') + text.count('not run\n') >= 5
  assert text.count('literature') == 4
  quantities = [f['quantity'] for f in comparison.compare(7, known)]
  assert quantities == 2 * ['GFLOPs', 'M parameters', 'top-1 %']


def test_runs_from_before_a_key_was_there_have_its_default(tmp_path):
  workdir = workdir_of(tmp_path / 'a', 'permuted')
  with edited_config(workdir) as config:
    del config['model']['head'], config['model']['cross_attend_widening_factor']
  run = runs.read_run(workdir)
  assert run.is_of(imagenet.get_config('permuted'))
  assert not run.is_of(imagenet.get_config(''))
  other = imagenet.get_config('permuted')
  other.model.head = 'query'
  assert not run.is_of(other)


def test_table_4_picks_by_test_score_and_tells_what_validation_picks(tmp_path):
  tests = [(1, 'test', 0.8), (2, 'test', 0.9), (3, 'test', 0.7)]
  held_out = [(1, 'validation', 0.5), (3, 'validation', 0.6)]
  both = [
    runs.read_run(workdir_of(tmp_path / name, '', modelnet40, *rest, **also))
    for name, rest, also in (
      ('a', [tests], {}),
      ('b', [sorted(held_out + tests)], {'task.validation_fraction': 0.2}),
    )
  ]
  for run, note in zip(
    both, ('000', '000; 70.0 where the validation split picks'), strict=True
  ):
    *others, perceiver = comparison.compare(4, [run])
    assert (perceiver['paper'], perceiver['ours']) == (85.7, 90.0)
    assert perceiver['note'] == f'{run.workdir}, step 2 of 50{note}'
    assert {figure['ours'] for figure in others} == {None}


def test_table_3_is_of_as_many_clips_as_there_still_are(tmp_path):
  records = [(7, 'train', 0.1), (7, 'eval', 0.401)]
  fewer = {'task.num_train': 1_000_000, 'task.num_eval': 15_000}
  run = runs.read_run(
    workdir_of(
      tmp_path / 'a', 'av_mel_tuned', audioset, records, metric='mAP', **fewer
    )
  )
  figures = comparison.compare(3, [run])
  assert {f['quantity'] for f in figures} == {'mAP'}
  ours = [f for f in figures if f['ours'] is not None]
  assert [(f['paper'], f['ours']) for f in ours] == [(44.2, 40.1)]


def test_what_is_no_run_is_one_clear_error(tmp_path):
  with pytest.raises(ValueError, match='is not the workdir of a run'):
    runs.read_run(str(tmp_path))
  workdir = workdir_of(tmp_path / 'a', '')
  (tmp_path / 'a' / telemetry.METRICS).write_text('')
  with pytest.raises(ValueError, match='has no evaluation yet'):
    runs.read_run(workdir)


def run_command(*arguments):
  return commands.run('scripts.tables', *arguments)


def test_the_command_prints_json_and_text():
  figures = json.loads(run_command('--table=4', '--format=json').stdout)
  assert figures == comparison.compare(4)
  assert {'row', 'quantity', 'paper', 'ours'} <= figures[0].keys()
  text = run_command('--table=5').stdout
  assert text.splitlines()[1:-2] == (
    formats.text(comparison.compare(5)).splitlines()
  )
  assert text.endswith(comparison.measured() + '\n')


def test_markdown_has_a_line_for_what_the_paper_has_side_by_side(
  tmp_path, monkeypatch
):
  small = tmp_path / 'small.json'
  monkeypatch.setattr(results, 'RESULTS', small)
  resnet = simulated_sweeps.result(np.arange(10_000)[None] < 5_000)
  results.write(small, {'fashion_mnist:table2_resnet': resnet})
  run = runs.read_run(workdir_of(tmp_path / 'a', 'resnet50_permuted'))
  lines = formats.markdown(2, [run]).splitlines()
  assert lines[2:4] == [
    '| | Paper | Ours | In small | Variant |',
    '| --- | ---: | ---: | ---: | --- |',
  ]
  assert lines[4] == (
    '| ResNet-50 (FF) / permuted | 73.5 / 39.4 | not run / 67.9'
    ' | 50.00 ± 0.50 / not run | `resnet50`, `resnet50_permuted` |'
  )
  assert lines[7].endswith(
    '| 78.0 / 78.0 | not run | not run | default, `permuted` |'
  )
  # The note says where a figure is from, and that the run is not finished.
  assert lines[10:] == [
    f'* `resnet50_permuted`: {run.workdir}, step 7 of 150137.'
  ]


def test_markdown_has_the_costs_side_by_side_and_accuracies_of_runs(tmp_path):
  run = runs.read_run(workdir_of(tmp_path / 'a', 'table5_4'))
  costs, with_runs = formats.markdown(5), formats.markdown(5, [run])
  assert '| | GFLOPs | M parameters | Variant |' in costs
  assert (
    '| 12 cross-attends alone | 519.2 / 519.2 | 34.9 / 34.9 | `table5_12` |'
  ) in costs
  assert '| 173.1 / 173.1 | 12.7 / 12.7 | 39.4 / 67.9 | `table5_4` |' in (
    with_runs
  )
  assert '| 45.3 / not run | `table5_8` |' in with_runs
  assert '| – / – | `table5_12` |' in with_runs


def test_several_tables_are_printed_at_once():
  run = lambda *arguments: run_command('--table=2,4', *arguments)
  by_table = json.loads(run('--format=json').stdout)
  assert by_table.keys() == {'2', '4'}
  assert by_table['4'] == comparison.compare(4)
  markdown = run('--format=markdown').stdout
  assert markdown == '\n\n'.join(map(formats.markdown, (2, 4))) + '\n'
  assert '| PointNet++ | 91.9 | – | – | literature |' in markdown
  text = run().stdout
  assert text.startswith('Table 2 ')
  assert '\n\nTable 4 ' in text
  assert '--table is one of 1, 2' in run_command('--table=2,8').stderr
  for flag in ('--results=x', '--small --runs=x', '--small --format=json'):
    error = '--results needs --small; --format and --runs do not go with'
    assert error in run(*flag.split()).stderr
