"""Weights by the name of their repository, from a hub on this machine."""

import json
import os
import pathlib
import sys

import numpy as np
import pytest

import perceiver
from perceiver import exports, weight_files
from perceiver.importers import hub
from perceiver.weight_files import WeightsError
from tests import commands
from tests.perceiver import hub_server
from tests.perceiver.small_models import TRANSFORMERS

FOLDER = TRANSFORMERS / 'fourier'
READ = ('config.json', 'model.safetensors', 'preprocessor_config.json')
OLD, NEW = 'a' * 40, 'b' * 40  # Commits.
FIND = """
import json, sys, warnings
warnings.simplefilter('error')
from perceiver.importers import hub

found = {}
for source in sys.argv[1:]:
  try:
    found[source] = str(hub.find(source))
  except OSError as error:
    found[source] = f'{type(error).__name__}: {error}'
print(json.dumps(found))
"""
LOAD = """
import sys, warnings
import numpy as np
import perceiver

warnings.simplefilter('error')
images = np.load(sys.argv[1])['images_16x20']
model = perceiver.from_pretrained('deepmind/fourier')
np.save(sys.argv[2], model(images))
old = perceiver.from_pretrained('deepmind/fourier', revision='refs/pr/1')
print(model.config['classes'][0], old.config['classes'][0])
"""


@pytest.fixture(scope='module')
def server():
  files = {name: (FOLDER / name).read_bytes() for name in READ}
  config = json.loads(files['config.json'])
  config['id2label']['0'] = 'of the old commit'
  old = files | {'config.json': json.dumps(config).encode()}
  pickled = {
    'config.json': files['config.json'],
    'pytorch_model.bin': b'\x80\4N.',
  }
  other = {'README.md': b'# A model', **pickled}
  repositories = {
    'deepmind/fourier': {NEW: other | files, OLD: old},
    'some/pickle': {NEW: pickled},
    'some/gated': {NEW: files},
  }
  with hub_server.running(
    repositories, {'main': NEW, 'refs/pr/1': OLD}, gated='some/gated'
  ) as running:
    yield running


@pytest.fixture
def ask(server, tmp_path):
  """Runs code in a process that has this hub."""

  def ask(code, *arguments, **variables):
    environment = server.environment(tmp_path / 'home') | variables
    result = commands.python(
      *('-c', code, *map(str, arguments)), env=os.environ | environment
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ''
    return result.stdout

  return ask


def snapshot(home, commit=NEW):
  return home / 'hub' / 'models--deepmind--fourier' / 'snapshots' / commit


@pytest.mark.slow
def test_a_model_is_loaded_by_name(server, ask, tmp_path):
  first = tmp_path / 'first.npy'
  output = ask(LOAD, FOLDER / 'expected.npz', first)
  expected = perceiver.from_pretrained(FOLDER)
  assert output.split(' ', 1) == [
    expected.class_names[0],
    'of the old commit\n',
  ]
  images = np.load(FOLDER / 'expected.npz')['images_16x20']
  np.testing.assert_array_equal(np.load(first), expected(images))
  # The cache has links to what was downloaded, and nothing else.
  folder = snapshot(tmp_path / 'home')
  assert sorted(x.name for x in folder.iterdir()) == sorted(READ)
  for path in folder.iterdir():
    assert path.is_symlink()
    assert path.resolve().parent == folder.parents[1] / 'blobs'
  # The folder of links can be named, too.
  np.testing.assert_array_equal(
    perceiver.from_pretrained(folder)(images), expected(images)
  )
  # A second time it is not downloaded again, and offline nothing is asked.
  second = tmp_path / 'second.npy'
  server.requests.clear()
  assert ask(LOAD, FOLDER / 'expected.npz', second) == output
  assert not [x for x in server.requests if '/resolve/' in x or '/files' in x]
  server.requests.clear()
  offline = {'HF_HUB_OFFLINE': '1'}
  assert ask(LOAD, FOLDER / 'expected.npz', second, **offline) == output
  assert server.requests == []
  np.testing.assert_array_equal(np.load(second), np.load(first))


def test_what_cannot_be_had_is_one_clear_line(server, ask, tmp_path):
  names = [
    *('deepmind/fourier', f'deepmind/fourier@{OLD}', 'deepmind/fourier@no'),
    *('some/none', 'some/gated', 'some/pickle', 'exports/x--y'),
  ]
  url, home = server.url, tmp_path / 'home'
  assert json.loads(ask(FIND, *names)) == {
    'deepmind/fourier': str(snapshot(home)),
    f'deepmind/fourier@{OLD}': str(snapshot(home, OLD)),
    'deepmind/fourier@no': (
      f"FileNotFoundError: deepmind/fourier on {url} has no revision 'no'."
    ),
    'some/none': (
      'FileNotFoundError: There is no folder some/none here, and no such'
      f' repository on {url}. If it is private, run `hf auth login`.'
    ),
    'some/gated': (
      'PermissionError: Access to some/gated must be granted first: ask for it'
      f' at {url}/some/gated, and run `hf auth login`.'
    ),
    'some/pickle': (
      f'FileNotFoundError: some/pickle on {url} has no model.safetensors; it'
      " has ['config.json', 'pytorch_model.bin']. pytorch_model.bin is a"
      ' pickle, which is not opened: with torch and transformers, load it and'
      " call save_pretrained('NEW', safe_serialization=True)."
    ),
    'exports/x--y': (
      'FileNotFoundError: There is no folder exports/x--y here, and no such'
      f' repository on {url}. If it is private, run `hf auth login`.'
    ),
  }


@pytest.mark.slow
@pytest.mark.parametrize(
  ('variables', 'reason'),
  [
    ({'HF_HUB_OFFLINE': '1'}, 'HF_HUB_OFFLINE forbids a download.'),
    # Nothing listens at this port.
    ({'HF_ENDPOINT': 'http://127.0.0.1:9'}, '127.0.0.1:9 does not give it: '),
  ],
)
def test_without_the_hub_the_cache_is_used(ask, tmp_path, variables, reason):
  ask(FIND, 'deepmind/fourier')
  names = ['deepmind/fourier', 'deepmind/fourier@v2', 'some/none']
  found = json.loads(ask(FIND, *names, **variables))
  home = tmp_path / 'home'
  assert found['deepmind/fourier'] == str(snapshot(home))
  for name in names[1:]:
    plain = name.partition('@')[0]
    assert found[name].startswith(
      f'FileNotFoundError: There is no folder {plain} here, the cache'
      f' {home}/hub does not have all of {name}, and '
    )
    assert reason in found[name]
    assert len(found[name].splitlines()) == 1


def test_a_path_wins_and_has_no_revision(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
  with pytest.raises(FileNotFoundError) as caught:
    hub.find('owner/name')
  assert str(caught.value) == (
    'There is no folder owner/name here. If it is a repository on a hub:'
    " pip install -e '.[hub]'"
  )
  for name in ('owner/name@v1', 'owner/name'):
    pathlib.Path(name).mkdir(parents=True)
    assert hub.find(name) == name
  for path in ('nowhere', '/owner/name', './owner/no', '../a/b', 'a/b/c', ''):
    assert hub.find(path) == path
  path = pathlib.Path('owner/no')  # Never a name.
  assert hub.find(path) == path
  with pytest.raises(
    ValueError, match=r"revision='v1' is .* but owner/name is"
  ):
    hub.find('owner/name', 'v1')
  with pytest.raises(ValueError, match='owner/no@v2 names a revision, and so'):
    hub.find('owner/no@v2', 'v1')


@pytest.fixture
def cache(tmp_path):
  """A snapshot in a cache, made by hand."""
  model = tmp_path / 'hub' / 'models--deepmind--fourier'
  (model / 'blobs').mkdir(parents=True)
  folder = model / 'snapshots' / NEW
  folder.mkdir(parents=True)
  for i, name in enumerate(READ):
    blob = model / 'blobs' / (f'{i}' * 40)
    blob.write_bytes((FOLDER / name).read_bytes())
    (folder / name).symlink_to(f'../../blobs/{blob.name}')
  return folder


def test_a_caches_files_may_be_shared_by_its_models(cache):
  (blob, *_) = cache.parents[1].glob('blobs/0*')
  shared = cache.parents[2] / 'blobs' / '0f'
  shared.mkdir(parents=True)
  blob.rename(shared / ('0f' * 32))
  blob.symlink_to(f'../../blobs/0f/{"0f" * 32}')
  config, tensors = exports.read(cache)
  assert config['scores'] == 'softmax'
  assert len(tensors) > 10


def test_a_link_to_anywhere_else_is_refused(cache, tmp_path):
  elsewhere = tmp_path / 'elsewhere'
  elsewhere.mkdir()
  (elsewhere / 'file').write_text('{}')
  other = tmp_path / 'hub' / 'models--other--name' / 'blobs'
  other.mkdir(parents=True)
  (other / 'file').write_text('{}')
  path = cache / 'config.json'
  for target in (
    *(elsewhere / 'file', other / 'file', '../../refs', '../../../../x'),
    *('../../blobs/../../file', '../../blobs/elsewhere/file', '/etc/passwd'),
  ):
    (cache.parents[1] / 'blobs' / 'elsewhere').unlink(missing_ok=True)
    (cache.parents[1] / 'blobs' / 'elsewhere').symlink_to(elsewhere)
    path.unlink()
    path.symlink_to(target)
    with pytest.raises(WeightsError, match='is a link out of the folder'):
      weight_files.read_json(cache)
  # A blob may not lead out of the cache, nor may all of them.
  path.unlink()
  path.symlink_to('../../blobs/out')
  (cache.parents[1] / 'blobs' / 'out').symlink_to(elsewhere / 'file')
  with pytest.raises(WeightsError, match=r'is a link out .*/elsewhere/file'):
    weight_files.read_json(cache)
  blobs = cache.parents[1] / 'blobs'
  blobs.rename(elsewhere / 'blobs')
  blobs.symlink_to(elsewhere / 'blobs')
  with pytest.raises(WeightsError, match='is a link out of the folder'):
    weight_files.read_tensors(cache)


def test_such_links_in_other_folders_are_refused(cache, tmp_path):
  plain = tmp_path / 'plain' / 'snapshots' / NEW
  cache.parents[1].rename(tmp_path / 'plain')
  with pytest.raises(WeightsError, match='is a link out of the folder'):
    weight_files.read_json(plain)
