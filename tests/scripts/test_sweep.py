"""Sweeps: what is trained, that it goes on, and what is made of it."""

import fcntl
import json
import math
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest

from experiments import benchmarks, experiment, history, telemetry
from experiments.errors import DataNotFoundError
from scripts.paper import claims, results, small_tables
from scripts.paper.results import Result
from scripts.report import comparison
from scripts.sweep import collection, figures, plan, runner, stand_ins
from tests import commands
from tests.conftest import ROOT

DEVICES = [runner.Device(''), runner.Device('gpu:1')]
# Stands in for a training: writes the files that it is given, or fails.
TRAINING = """
import json, pathlib, sys
workdir, files, status = sys.argv[1:]
print('Loss is not finite.')
for name, content in json.loads(files).items():
  (pathlib.Path(workdir) / name).write_text(content)
sys.exit(int(status))
"""


def accuracy(run):
  """Held out and on the test set, as if a rate of 0.003 were best."""
  loss = 0.1 + 10 * abs(run.learning_rate - 0.003) + 0.01 * run.seed
  return 1 - loss - 0.02, 1 - loss


def files_of(run):
  """What a training of the run leaves."""
  config = run.config()
  task = benchmarks.create(**config.task)
  end = experiment.total_steps(config, task)
  lines = [
    {'step': step, 'split': 'train', 'top1': step / end, 'time': 60.0 + step}
    for step in range(1, end + 1)
  ]
  lines += [
    {'step': end, 'split': split, 'top1': value, 'count': 10_000, 'time': 99.0}
    for split, value in zip(task.eval_splits, accuracy(run), strict=True)
  ]
  launch = {'time': history.iso(50.0), 'commit': 'c0ffee', 'devices': ['cpu']}
  return {
    telemetry.CONFIG: json.dumps(config.to_dict(), default=str),
    telemetry.LAUNCHES: json.dumps(launch) + '\n',
    telemetry.METRICS: ''.join(json.dumps(line) + '\n' for line in lines),
  }


@pytest.fixture
def started(monkeypatch):
  """Runs that were started, in their order; `fail` names those that fail."""
  runs = []

  def command_of(run, root):
    runs.append(run)
    fails = run.learning_rate in started.fail
    content = {} if fails else files_of(run)
    workdir = run.workdir(root)
    texts = [workdir, json.dumps(content), str(int(fails))]
    return [sys.executable, '-c', TRAINING, *texts]

  started = lambda: runs
  started.fail = set()
  monkeypatch.setattr(runner, 'command_of', command_of)
  return started


def table2(*names, num_steps=20):
  return plan.select(['fashion_mnist'], names, {'train.steps': num_steps})


def test_sweeps_and_variants_are_selected_once_each():
  variants = table2('table2', 'table7', 'table2_vit')
  names = [variant.name for variant in variants]
  assert len(names) == len(set(names)) == 11
  assert names[0] == 'table2_perceiver'
  by_name = {variant.name: variant for variant in variants}
  assert by_name['table2_perceiver'].num_seeds == 3
  assert by_name['table7_not_shared'].num_seeds == 1
  assert by_name['table7_not_shared'].learning_rates == (1e-3, 3e-3, 1e-2)
  # Nothing is held out there, so there is nothing to pick by.
  (events,) = plan.select(['audioset'], ['table3_raw'], {})
  assert (len(events.learning_rates), events.num_seeds) == (1, 3)
  whole = plan.select(['fashion_mnist', 'modelnet40', 'audioset'], [], {})
  assert len(whole) == len({variant.title for variant in whole}) == 47
  for table, size in (('table2', 10), ('table6', 8), ('table7', 2)):
    full = plan.select(['imagenet'], [table], {'data.dir': '/data'})
    assert len(full) == size
    assert {variant.num_runs for variant in full} == {1}


def test_a_learning_rate_that_is_given_is_not_picked():
  settings = {'optimizer.learning_rate': 0.5}
  (variant,) = plan.select(['fashion_mnist'], ['table2_vit'], settings)
  assert {run.learning_rate for run in variant.trials()} == {0.5}


def test_data_that_stands_in_for_a_benchmark_is_made(monkeypatch, tmp_path):
  called = []
  monkeypatch.setattr(stand_ins, '_call', called.append)
  select = lambda config, name: plan.select(
    [config], [name], {'data.dir': str(tmp_path / 'events')}
  )
  stand_ins.make(
    [
      *select('modelnet40', 'table4_resnet'),
      *select('modelnet40', 'table4_perceiver'),
      *select('audioset', 'table3_raw'),
    ]
  )
  assert [command[0] for command in called] == [
    *('scripts.generate_solids', 'scripts.prepare_modelnet40'),
    *('scripts.generate_audioset', 'scripts.prepare_audioset'),
  ]
  with pytest.raises(DataNotFoundError, match=r'No train-images.*dataset-fas'):
    stand_ins.make(select('fashion_mnist', 'table2_vit'))


def test_all_small_rows_and_points_are_in_the_sweeps():
  whole = plan.select(['fashion_mnist', 'modelnet40', 'audioset'], [], {})
  swept = {variant.title for variant in whole}
  shown = {
    line.title for t in small_tables.SMALL for line in small_tables.lines(t, {})
  }
  shown |= {
    f'fashion_mnist:{variant}'
    for axes in small_tables.FIGURES.values()
    for points in axes.values()
    for variant in points.values()
  }
  assert shown == swept
  assert swept >= {
    title
    for claim in claims.CLAIMS
    for c in claim.comparisons
    for title in (c.first, c.second)
  }


def test_points_have_the_values_that_figures_show():
  keys = {
    'latents': 'model.num_latents',
    'latent channels': 'model.latent_channels',
    'self-attends per block': 'model.num_self_attends',
    'cross-attends': 'model.num_cross_attends',
    'init scale of the latents': 'model.latent_init_scale',
    'bands': 'task.num_bands',
    'maximum resolution': 'task.max_resolution',
  }
  for axes in small_tables.FIGURES.values():
    for axis, points in axes.items():
      configs = []
      for value, name in points.items():
        (variant,) = plan.select(['fashion_mnist'], [name], {})
        config = variant.trials()[0].config()
        section, key = keys[axis].split('.')
        assert config[section][key] == value
        flat = {
          f'{s}.{k}': x
          for s, d in config.items()
          if s != 'seed'
          for k, x in d.items()
        }
        del flat[keys[axis]]
        flat.pop('model.num_latent_transformers', None)  # One for each look.
        configs.append(flat)
      assert all(config == configs[0] for config in configs)


def test_all_rows_train_alike():
  names = plan.select(['fashion_mnist'], [], {})
  assert {
    tuple(
      variant.trials()[0].config()[section][key]
      for section, key in (
        ('train', 'epochs'),
        ('train', 'batch_size'),
        ('task', 'flip'),
        ('task', 'max_shift'),
        ('task', 'validation_fraction'),
        ('optimizer', 'name'),
        ('optimizer', 'schedule'),
      )
    )
    + variant.learning_rates
    for variant in names
  } == {(1.0, 32, True, 1, 1 / 12, 'adamw', 'cosine', 1e-3, 3e-3, 1e-2)}


@pytest.mark.parametrize(
  ('call', 'message'),
  [
    (lambda: plan.select(['fashion_mnist'], ['table9'], {}), 'table9; the s'),
    (lambda: plan.select(['fashion'], [], {}), "No module named 'configs.fash"),
    (lambda: table2('table2_vit', num_steps='many'), '--set: fashion_mnist:t'),
    (
      lambda: plan.select(['fashion_mnist'], [], {'seed': 3}),
      '--set=seed: the seeds are those of NUM_SEEDS',
    ),
    (
      lambda: plan.select(['fashion_mnist.py:permuted'], [], {}),
      "--config: 'fashion_mnist.py:permuted' is no config",
    ),
    (lambda: runner.Device('cpu'), "'cpu' is not cpu:N"),
    (lambda: runner.Device('cpu:4095'), 'there is no cpu:4095'),
  ],
)
def test_what_cannot_be_is_one_clear_error(call, message):
  with pytest.raises(ValueError, match=message):
    call()


def test_the_held_out_images_pick_the_rate_that_the_seeds_have(
  started, tmp_path
):
  said = []
  variants = table2('table2_perceiver')
  root = str(tmp_path)
  runner.Runner(variants, root, DEVICES, said.append).run()
  runs = [(run.learning_rate, run.seed) for run in started()]
  assert runs == [(1e-3, 0), (3e-3, 0), (1e-2, 0), (3e-3, 1), (3e-3, 2)]
  assert len(said) == 5
  # Two run at once; which of them ends first is chance.
  (best,) = (x for x in said if 'learning rate 0.003, seed 0: ' in x)
  assert 'top1 88.00 %, test top1 90.00 % (' in best
  assert 'to go, until about' in said[1]
  assert said[-1].endswith('That was the last one.')

  (result,) = collection.collect(variants, root, 'command').values()
  assert result.scores == pytest.approx([0.9, 0.89, 0.88])
  assert result.learning_rate == 3e-3
  assert result.tried == pytest.approx({1e-3: 0.86, 3e-3: 0.88, 1e-2: 0.81})
  assert result.train == pytest.approx(39 / 40)  # Of the last two steps.
  variance = 0.89 * 0.11 / 10_000 + 0.01**2 / 3
  assert result.standard_error == pytest.approx(math.sqrt(variance))
  assert result.hours == pytest.approx(5 * (99 - 50) / 3600)
  assert (result.commit, result.command) == ('c0ffee', 'command')

  # Once more: all is finished.
  runner.Runner(variants, root, DEVICES, said.append).run()
  assert len(started()) == 5
  assert said[-1] == '5 of 5 runs were finished before.'


@pytest.mark.slow
def test_a_row_is_whole_before_the_next_one_begins(started, tmp_path):
  variants = table2('table2_perceiver', 'table2_vit')

  def sweep():
    runner.Runner(variants, str(tmp_path), DEVICES[:1], print).run()

  sweep()
  first, second = variants
  rows = [run.variant for run in started()]
  assert rows == [first] * 5 + [second] * 5
  # A sweep that was stopped before all seeds were trained.
  left = [run for variant in variants for run in variant.runs(3e-3)[1:]]
  for run in [*left, second.trials()[-1]]:
    (pathlib.Path(run.workdir(str(tmp_path))) / telemetry.METRICS).unlink()
  sweep()
  assert started()[10:] == [*left[:2], second.trials()[-1], *left[2:]]


def test_a_run_that_fails_is_named_and_the_others_go_on(started, tmp_path):
  started.fail = {1e-3, 3e-3}
  said = []
  variants = table2('table2_transformer')
  sweep = runner.Runner(variants, str(tmp_path), DEVICES, said.append)
  sweep.run()
  assert len(started()) == 3
  assert {run.learning_rate for run in sweep.failures} == started.fail
  assert 'Loss is not finite. (status 1)' in set(sweep.failures.values())
  assert any('seed 0: FAILED: Loss is not' in line for line in said)
  (result,) = collection.collect(variants, str(tmp_path), '').values()
  assert result.tried == {1e-3: None, 3e-3: None, 1e-2: pytest.approx(0.81)}
  # Started again, they are tried again.
  started.fail = set()
  sweep = runner.Runner(variants, str(tmp_path), DEVICES, said.append)
  sweep.run()
  assert len(started()) == 5
  assert not sweep.failures


def test_all_rates_of_a_variant_may_fail(started, tmp_path):
  started.fail = {1e-3, 3e-3, 1e-2}
  said = []
  variants = table2('table2')[:2]
  sweep = runner.Runner(variants, str(tmp_path), DEVICES, said.append)
  sweep.run()
  assert len(sweep.failures) == 6
  assert said[-1].startswith('[6/6]')
  assert collection.collect(variants, str(tmp_path), '') == {}


@pytest.mark.slow
def test_a_process_of_a_killed_sweep_is_waited_for(started, tmp_path):
  variants = table2('table2_transformer')
  first = variants[0].trials()[0]
  folder = (
    tmp_path / 'fashion_mnist/table2_transformer/learning_rate_0.001_seed_0'
  )
  assert first.workdir(str(tmp_path)) == str(folder)
  folder.mkdir(parents=True)
  lock = open(folder / 'lock', 'w')  # noqa: SIM115 - Held as a process would.
  fcntl.flock(lock, fcntl.LOCK_EX)

  def end():
    for name, content in files_of(first).items():
      (folder / name).write_text(content)
    lock.close()

  timer = threading.Timer(0.5, end)
  timer.start()
  runner.Runner(variants, str(tmp_path), DEVICES[:1], print).run()
  timer.join()
  assert first not in started()
  assert len(started()) == 2
  # One that did not come to the end is started.
  (folder / telemetry.METRICS).unlink()
  lock = open(folder / 'lock', 'w')  # noqa: SIM115
  fcntl.flock(lock, fcntl.LOCK_EX)
  timer = threading.Timer(0.5, lock.close)
  timer.start()
  runner.Runner(variants, str(tmp_path), DEVICES[:1], print).run()
  timer.join()
  assert started()[2:] == [first]


def test_told_to_stop_it_tells_its_runs(monkeypatch, tmp_path):
  waits = """
import pathlib, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
pathlib.Path(sys.argv[1], 'ready').touch()
signal.pause()
"""
  ended = []

  def command_of(run, root):
    return [sys.executable, '-c', waits, run.workdir(root)]

  def stop():
    while len(list(tmp_path.rglob('ready'))) < len(DEVICES):
      time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGTERM)

  monkeypatch.setattr(runner, 'command_of', command_of)
  before = signal.getsignal(signal.SIGTERM)
  thread = threading.Thread(target=stop)
  thread.start()
  with pytest.raises(KeyboardInterrupt):
    runner.Runner(
      table2('table2_transformer'), str(tmp_path), DEVICES, ended.append
    ).run()
  thread.join()
  assert ended == ['Stopping; each run saves first.']
  assert signal.getsignal(signal.SIGTERM) == before
  for folder in tmp_path.glob('*/*/*'):  # No process has its lock any more.
    with open(folder / 'lock', 'w') as lock:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_directory_of_another_config_is_refused(started, tmp_path):
  variants = table2('table2_transformer')
  runner.Runner(variants, str(tmp_path), DEVICES, print).run()
  longer = table2('table2_transformer', num_steps=30)
  with pytest.raises(
    ValueError, match=r'has a run with train\.steps=20, which'
  ):
    runner.Runner(longer, str(tmp_path), DEVICES, print)


def test_devices_are_given_by_the_environment():
  assert runner.Device('gpu:3').environment() == {'CUDA_VISIBLE_DEVICES': '3'}
  chip = runner.Device('tpu:2').environment()
  assert chip['TPU_VISIBLE_CHIPS'] == '2'
  core = min(os.sched_getaffinity(0))
  before = os.sched_getaffinity(0)
  with runner.Device(f'cpu:{core}').inherited():
    pinned = subprocess.run(
      [sys.executable, '-c', 'import os; print(os.sched_getaffinity(0))'],
      capture_output=True,
      text=True,
    )
  assert pinned.stdout.strip() == str({core})
  assert os.sched_getaffinity(0) == before


def result(score, seeds=1, metric='top1', **fields):
  scores = [score + 0.01 * i for i in range(seeds)]
  rates = {2e-3: score, 5e-3: score}
  values = {
    **{'metric': metric, 'scores': scores, 'num_test': 10_000},
    **{'train': 0.875, 'learning_rate': 5e-3, 'tried': rates, 'hours': 0.5},
    **{'command': 'python -m scripts.sweep', 'commit': 'c0ffee12'},
    'device': 'cpu',
  }
  return Result(**(values | fields))


@pytest.fixture
def whole():
  """Results of everything, all alike."""
  found = {}
  for variant in plan.select(
    ['fashion_mnist', 'modelnet40', 'audioset'], [], {}
  ):
    metric = 'mAP' if variant.config_name == 'audioset' else 'top1'
    found[variant.title] = result(0.8, variant.num_seeds, metric)
  return found


def test_results_are_kept_beside_those_of_other_variants(tmp_path):
  path = tmp_path / 'results.json'
  assert results.read(path) == {}
  results.write(path, {'a': result(0.5)})
  results.write(path, {'b': result(0.6, 3)})
  assert results.read(path) == {'a': result(0.5), 'b': result(0.6, 3)}
  path.write_text('[1]')
  with pytest.raises(ValueError, match='has no results of a sweep'):
    results.read(path)


def test_the_error_of_map_is_that_of_the_seeds():
  assert result(0.5, 3, 'mAP').standard_error == pytest.approx(0.01 / 3**0.5)
  assert math.isnan(result(0.5, 1, 'mAP').standard_error)


def test_tables_have_the_papers_figures_beside_ours(whole):
  whole['fashion_mnist:table7_not_shared'] = result(0.75)
  text = small_tables.report(whole, [7])
  error = 100 * math.sqrt(0.75 * 0.25 / 10_000)
  assert (
    '| no weight sharing | `table7_not_shared` | 72.9 | 75.00 ±'
    f' {error:.2f} | 87.7 | 87.50 | 1 | 0.002, **0.005** | 30 |' in text
  )
  assert '`python -m scripts.sweep` (commit c0ffee1, cpu, 1.0 hours)' in text
  text = small_tables.report(whole)
  assert 'not run' not in text
  for heading in ('Table 2', 'Table 6', 'Figure 5', 'Figure 6'):
    assert f'**{heading} in small**' in text
  assert text.startswith("| The paper's claim | where |")
  del whole['fashion_mnist:fig5_latents_8']
  assert '| latents | 8 | not run | |' in small_tables.report(whole)
  with pytest.raises(ValueError, match=r'--table=1: in small there are \[2, 3'):
    small_tables.report(whole, [1])


def test_the_page_on_results_has_what_the_command_prints():
  page = (ROOT / 'experiments/RESULTS.md').read_text()
  assert small_tables.report(results.read(results.RESULTS)) in page


@pytest.mark.parametrize(
  ('first', 'relation', 'second', 'verdict'),
  [
    (0.80, 'exceeds', 0.75, claims.HOLDS),
    (0.75, 'exceeds', 0.80, claims.FAILS),
    (0.80, 'exceeds', 0.795, claims.UNKNOWN),
    (0.80, 'equals', 0.795, claims.HOLDS),
    (0.80, 'equals', 0.75, claims.FAILS),
  ],
)
def test_claims_are_decided_at_two_standard_errors(
  first, relation, second, verdict
):
  known = {'a': result(first), 'b': result(second)}
  compared = claims.Comparison('a', relation, 'b')
  assert compared.verdict(known) == verdict
  assert compared.verdict({'a': result(first)}) == claims.NOT_RUN
  both = claims.Claim(
    '', '', '', (claims.Comparison('a', 'equals', 'a'), compared)
  )
  assert both.verdict(known) == verdict
  known['b'] = result(second, 1, 'mAP')  # Of one seed, whose error is unknown.
  assert compared.verdict(known) == claims.UNKNOWN


def test_pictures_are_of_what_is_complete(whole):
  drawn = figures.all_of(whole)
  assert set(drawn) == {
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


def test_a_small_run_stands_beside_its_rows(tmp_path):
  (variant,) = plan.select(['fashion_mnist'], ['table7_not_shared'], {})
  run = variant.trials()[0]
  for name, content in files_of(run).items():
    (tmp_path / name).write_text(content)
  (row,) = comparison.paper(history.read(str(tmp_path)))
  title = 'Table 7 in small, no weight sharing'
  assert row == (title, 'top-1 %', 72.9, pytest.approx(100 * accuracy(run)[1]))


def sweep(workdir, *arguments):
  command = [
    *(sys.executable, '-m', 'scripts.sweep', f'--workdir={workdir}'),
    *arguments,
  ]
  return subprocess.Popen(
    command,
    cwd=ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


@pytest.mark.slow
def test_a_killed_sweep_goes_on_to_a_table(tmp_path):
  arguments = ('--config=configs/digits.py', '--variants=smoke')
  settings = ('--set=train.steps=6', '--set=train.checkpoint_every=2')
  process = sweep(tmp_path, *arguments, *settings)
  run = tmp_path / 'digits/smoke/learning_rate_0.01_seed_0'
  while not (run / 'lock').exists():
    assert process.poll() is None, process.stdout.read()
  process.kill()
  process.communicate()
  # Its run goes on alone, until it is killed too or ends; either is mended.
  again = sweep(tmp_path, *arguments, *settings)
  said, _ = again.communicate()
  assert again.returncode == 0, said
  assert '[1/1] digits:smoke, learning rate 0.01, seed 0: test top1' in said
  known = json.loads((tmp_path / 'results.json').read_text())
  assert known['digits:smoke']['num_test'] == 360
  assert 'Table 2 in small' in (tmp_path / 'table.md').read_text()


def test_the_command_leaves_a_table_whatever_fails(
  started, monkeypatch, tmp_path
):
  started.fail = {1e-3}
  monkeypatch.setattr(stand_ins, 'make', lambda variants: None)  # Of data.
  result = commands.run(
    'scripts.sweep',
    *(f'--workdir={tmp_path}', '--config=configs/fashion_mnist.py'),
    *('--variants=table2_vit', '--set=train.steps=20'),
  )
  assert result.returncode == 1
  assert len(started()) == 5
  assert f'{tmp_path}/table.md has 1 of 1 variants.' in result.stdout
  assert result.stderr.startswith('Failed: fashion_mnist:table2_vit, learning')
  known = json.loads((tmp_path / 'results.json').read_text())
  row = known['fashion_mnist:table2_vit']
  assert row['command'].startswith('python -m scripts.sweep --workdir=')
  assert 'Table 2 in small' in (tmp_path / 'table.md').read_text()


def test_what_is_wrong_is_said_before_anything_is_trained(tmp_path):
  result = commands.run(
    'scripts.sweep', f'--workdir={tmp_path / "new"}', '--set=train.step=3'
  )
  assert result.returncode == 1
  assert result.stderr.startswith(
    'Error: --set: fashion_mnist:table2_perceiver:'
  )
  assert not (tmp_path / 'new').exists()
