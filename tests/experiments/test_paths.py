"""Paths as users give them: `~`, empty ones, and any character in a name."""

import ast
import itertools
import os
import pathlib
import pwd
import shutil

from absl import flags
from etils import epath
import jax
from ml_collections import ConfigDict
import numpy as np
import pytest

from configs import audioset as audioset_configs
from configs import fashion_mnist, imagenet, modelnet40
from experiments import (
  benchmarks,
  config_checks,
  experiment,
  path_flags,
  saved,
  storage,
  telemetry,
  train,
)
from experiments.benchmarks import fashion_mnist as clothes
from experiments.benchmarks.audioset import parts
from experiments.benchmarks.audioset import source as audioset
from experiments.benchmarks.imagenet import source as images
from experiments.benchmarks.modelnet40 import preparation
from experiments.benchmarks.modelnet40 import source as shapes
from experiments.errors import DataNotFoundError
from scripts import attention_maps, export, report
from scripts.sweep import plan, stand_ins
from tests import commands
from tests.benchmarks.audioset import test_source as audioset_clips
from tests.benchmarks.modelnet40.archives import mesh_files, TINY, write_zip
from tests.conftest import CONFIGS, ROOT
from tests.experiments.smoke import checkpoints, create, losses, smoke, starts

ODD = 'data [old] *?{x}#~'  # A name that a disk allows.
# Flags for text that are not paths.
TEXTS = {
  *('coordinator', 'latents', 'shard', 'target', 'attention', 'mode'),
  *('examples', 'cross_attends', 'show', 'tests', 'table', 'variants'),
  *('devices', 'set', 'workers', 'config'),  # NAME of configs/NAME.py.
}
TEXT_KEYS = {
  *('task.name', 'task.positions', 'task.dataset', 'task.mix_with'),
  *('task.rand_augment_operations', 'task.train_crop', 'model.name'),
  *('model.attention', 'model.compute_dtype', 'model.cross_attend_placement'),
  *('model.head', 'model.remat', 'model.self_attention'),
  *('optimizer.name', 'optimizer.schedule'),
  *('train.profile_steps', 'eval.checkpoint'),
}


def defined_flags():
  """Yields (file, function, flag) for each flag of an entry point."""
  for folder in ('experiments', 'scripts', 'tests/torture'):
    for path in (ROOT / folder).rglob('*.py'):
      for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call) or not node.args:
          continue
        name = getattr(node.func, 'attr', '')
        is_name = isinstance(node.args[0], ast.Constant)
        if name.startswith(('DEFINE', 'define_')) and is_name:
          file = str(path.relative_to(ROOT))
          yield file, name, node.args[0].value


def test_each_flag_of_text_is_a_path_or_known_to_be_none():
  found = set(defined_flags())
  of_text = ('DEFINE_string', 'DEFINE_list', 'DEFINE_multi_string')
  texts = {flag for _, kind, flag in found if kind in of_text}
  assert texts == TEXTS
  # `path_flags` defines the flags for config files, too.
  assert {kind for _, kind, _ in found} <= {
    *of_text,
    *('DEFINE_integer', 'DEFINE_float', 'DEFINE_bool', 'DEFINE_boolean'),
    *('DEFINE_enum', 'DEFINE_multi_enum'),
    *('define_path', 'define_paths', 'define_config'),
  } | {'DEFINE_config_file'}
  paths = {(file, flag) for file, kind, flag in found if 'define_' in kind}
  assert {
    ('experiments/run.py', 'workdir'),
    ('scripts/tables/__main__.py', 'runs'),
  } <= paths
  assert [x for x in found if x[1] == 'DEFINE_config_file'] == []
  assert len(paths) > 20


def test_each_key_of_text_is_a_path_or_known_to_be_none():
  found = set()
  for name in CONFIGS:
    module = __import__(f'configs.{name}', fromlist=[name])
    for variant in module.VARIANTS:
      config = module.get_config(variant)
      for section, values in config.items():
        if isinstance(values, ConfigDict):
          found |= {
            f'{section}.{key}' for key in values if values.get_type(key) is str
          }
  assert found == TEXT_KEYS | set(config_checks.PATHS)


@pytest.fixture
def home(tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  return tmp_path


def test_a_tilde_is_the_home_of_a_user(home):
  root = pwd.getpwuid(0)
  for path, expanded in (
    ('~', f'{home}'),
    ('~/runs/x', f'{home}/runs/x'),
    (f'~{root.pw_name}/x', f'{root.pw_dir}/x'),
    ('./~', './~'),
    ('a/~/b', 'a/~/b'),
    ('x~', 'x~'),
    ('.', '.'),
    ('gs://bucket/~/x', 'gs://bucket/~/x'),
    (ODD, ODD),
  ):
    assert storage.expand(path, '--workdir') == expanded
    if '://' not in path:  # A caller in Python passes no flag.
      assert str(storage.path(path)) == str(epath.Path(expanded))
  with pytest.raises(ValueError, match=r'--x=~no/y: there is no user ~no here'):
    storage.expand('~no/y', '--x')
  with pytest.raises(ValueError, match=r'^--workdir is empty: is a variable'):
    storage.expand('', '--workdir')
  with pytest.raises(ValueError, match='empty'):
    storage.path('')


@pytest.fixture
def new_flags():
  """Flags that only this test sees."""
  path_flags.define_path('test_one', 'data', 'One.')
  path_flags.define_paths('test_some', [], 'Some.')
  path_flags.define_config('test_config', None, 'A config.')
  yield flags.FLAGS
  for name in ('test_one', 'test_some', 'test_config'):
    delattr(flags.FLAGS, name)


@pytest.mark.filterwarnings(
  'ignore:the load_module'
)  # ml_collections calls it.
def test_flags_of_paths(new_flags, home):
  one, some = new_flags['test_one'], new_flags['test_some']
  assert (one.value, some.value) == ('data', [])
  one.parse('~/x')
  some.parse('~/x,y,gs://z')
  assert one.value == f'{home}/x'
  assert some.value == [f'{home}/x', 'y', 'gs://z']
  shutil.copytree(ROOT / 'configs', home / 'mine')
  new_flags['test_config'].parse('~/mine/digits.py:smoke')
  assert new_flags['test_config'].value.task.name == 'digits'
  for flag in (one, some, new_flags['test_config']):
    with pytest.raises(
      flags.IllegalFlagValueError, match=f'^--{flag.name} is empty'
    ):
      flag.parse('')
  with pytest.raises(flags.IllegalFlagValueError, match=r'^--test_some is'):
    some.parse('x,,y')


def test_arguments_of_commands():
  line = commands.error('scripts.report', 'runs/x', '')
  assert line.startswith('Error: The directory of a run is empty')


@pytest.mark.parametrize('key', config_checks.PATHS)
def test_paths_of_configs(home, key):
  def resolved(value):
    config = fashion_mnist.get_config()
    config.update_from_flattened_dict({key: value})
    config_checks.resolve_paths(config)
    return saved.flat(config.to_dict())[key]

  assert resolved('~/x') == f'{home}/x'
  assert resolved('None') is None  # The text None, as a command line gives it.
  with pytest.raises(ValueError, match=f'^{key}=~no/x: there is no user'):
    resolved('~no/x')
  if key != 'data.dir':
    with pytest.raises(ValueError, match=f'^{key} is empty'):
      resolved('')


def test_paths_are_resolved_before_all_else(home):
  run = create(**{'train.init_from': '~/x'})
  assert run.config.train.init_from == f'{home}/x'


@pytest.mark.parametrize(
  'module', [audioset_configs, fashion_mnist, imagenet, modelnet40]
)
def test_an_empty_data_dir_is_not_the_current_folder(
  module, tmp_path, monkeypatch
):
  # As if the data were in the folder.
  monkeypatch.chdir(tmp_path)
  for folder in (
    *('train/a', 'val/a', 'imagenet2012/5.1.0'),
    *(audioset.directory(''), shapes.directory('modelnet40', '')),
  ):
    (tmp_path / folder).mkdir(parents=True)
  for name in itertools.chain(*clothes.FILES.values()):
    (tmp_path / name).touch()
  (tmp_path / audioset.directory('') / audioset.INFO).write_text('{}')
  (tmp_path / 'imagenet2012/5.1.0/dataset_info.json').touch()
  config = module.get_config()
  task = benchmarks.create(**config.task)
  for empty in ('', 'None'):
    config.data.dir = empty
    config_checks.resolve_paths(config)
    for split in (task.train_split, *task.eval_splits):
      with pytest.raises(DataNotFoundError, match=r"data\.dir=(''|None)"):
        task.source(split, config.data.dir)


def test_a_sweep_makes_its_data_in_the_users_home(home, monkeypatch):
  commands = []
  monkeypatch.setattr(stand_ins, '_call', commands.append)
  variants = plan.select(['modelnet40'], ['solids'], {'data.dir': '~/solids'})
  stand_ins.make(variants)
  assert [x[-1] for x in commands] == [
    f'--output={home}/solids/solids.zip',
    f'--data_dir={home}/solids',
  ]


def test_globs_take_the_names_of_folders_literally(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  for folder in (
    ODD,
    'data o abc{x}#~',
  ):  # The first name, as a pattern, matches the second.
    os.makedirs(f'{folder}/inner [0]')
    pathlib.Path(folder, 'inner [0]', 'a.txt').touch()
  for path in (
    storage.path(f'{tmp_path}/{ODD}') / 'inner [0]',
    storage.path(ODD) / 'inner [0]',
    storage.absolute(storage.path(f'{ODD}/inner [0]')),
  ):
    assert list(path.glob('*.txt')) == [path / 'a.txt']
    (found,) = path.parent.glob('inner*')
    assert list(found.glob('a.*')) == [path / 'a.txt']
  for name in ('gs://runs/a[0]', 'gs://runs/a*', 'gs://runs/a?', 'gs://runs/#'):
    with pytest.raises(OSError, match='names in a store may not have'):
      storage.path(name)


def test_a_run_whose_workdir_has_wildcards(trained, copy, tmp_path):
  run, _, metrics = trained
  folder = copy.rename(tmp_path / ODD)
  shutil.rmtree(folder / 'checkpoints' / '20')
  workdir = str(folder)
  assert train.train(run, workdir) == {'test': metrics}
  assert starts(workdir) == [0, 15]
  assert len(losses(workdir)) == 20
  assert saved.evaluate_checkpoint(run, workdir) == {'test': metrics}
  # A damaged checkpoint is moved.
  arrays = storage.files(storage.path(workdir) / 'checkpoints/20/state/d')
  arrays[0].write_bytes(arrays[0].read_bytes()[:-1])
  with checkpoints(workdir, read_only=False) as writer:
    assert writer.step('latest') == 15
  assert (folder / 'damaged/20').exists()


@pytest.mark.slow
def test_what_looks_at_such_a_run(trained, tmp_path):
  workdir = tmp_path / ODD
  shutil.copytree(trained[1], workdir)
  telemetry.record_skipped(str(workdir), 'test', 3, 'It is broken.')
  page = report.write([str(workdir)], num_maps=0, num_mistakes=2)
  assert page.parent == workdir
  text = page.read_text()
  assert 'It is broken.' in text
  assert text.count('data:image') > 1  # Examples that the model gets wrong.
  (maps,) = attention_maps.write(str(workdir), examples=[3])
  assert maps.read_bytes().startswith(b'\x89PNG')
  out = tmp_path / 'to [1]*'
  export.export(str(workdir), str(out))
  run = experiment.create(smoke(**{'train.init_from': str(out)}))
  start = train.warm_start.read(run)
  state = saved.restore(trained[0], str(workdir))
  for name, tensor in start.items():
    module, _, parameter = name.rpartition('/')
    np.testing.assert_array_equal(
      tensor, jax.device_get(state.params[module][parameter])
    )


@pytest.mark.parametrize('kind', ['tfds', 'folders', 'flat', 'parquet', 'tars'])
def test_images_in_such_a_folder(mini_imagenet_dir, tmp_path, kind):
  folder = tmp_path / ODD
  shutil.copytree(mini_imagenet_dir / kind, folder)
  for split, count in (('train', 24), ('validation', 12)):
    options = {'num_examples': count, 'num_classes': 12}
    ours = images.open_source(str(folder), split, **options)
    same = images.open_source(str(mini_imagenet_dir / kind), split, **options)
    assert [ours[i] for i in range(count)] == [same[i] for i in range(count)]
  assert len(images.classes(str(folder), 12)) == 12


def test_clips_in_such_a_folder(tmp_path):
  folder = tmp_path / ODD / audioset.directory('')
  folder.mkdir(parents=True)
  clips = [audioset_clips.record(i) for i in range(2)]
  records = [x for clip in clips for x in audioset.encode(clip)]
  parts.write_records(str(folder / 'a'), records)
  (folder / audioset.INFO).write_text(
    '{"classes": [["/m/0", "A"]], "splits": {"train": {"a": 2}}}'
  )
  source = audioset.open_source(
    str(tmp_path / ODD), 'train', num_examples=2, num_classes=1
  )
  assert source[1]['frames'][59] == clips[1]['frames'][59]


def test_point_clouds_in_such_a_folder(tmp_path, monkeypatch):
  monkeypatch.setitem(shapes.DATASETS, 'tiny', TINY)
  folder = tmp_path / ODD
  folder.mkdir()
  archive = write_zip(folder / 'tiny [0].zip', mesh_files())
  preparation.prepare('tiny', archive, str(folder))
  assert 'already' in preparation.prepare('tiny', archive, str(folder))
  found = shapes.open_source('tiny', 'train', str(folder))
  assert len(found) == 12
  assert found[11]['points'].shape == (shapes.NUM_POINTS, 3)
