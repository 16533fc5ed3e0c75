"""Zips, tars and folders of the same files give the same records."""

import json
import os

import pytest

from experiments import telemetry, train
from tests.benchmarks.modelnet40.archives import (
  MANY,
  mesh_files,
  prepare,
  prepared,
  published_hdf5_files,
  SIZES,
  SOURCES,
  text_files,
  write_folder,
  write_tar,
  write_zip,
)
from tests.benchmarks.modelnet40.test_task import create, tiny

FILES = {
  'tiny': mesh_files,
  'tiny_hdf5': published_hdf5_files,
  'tiny_text': text_files,
}


def with_clutter(files):
  """Adds what macOS puts beside files, in folders and in archives."""
  clutter = {}
  for name in files:
    if not name.endswith('/'):
      place, base = os.path.split(name)
      clutter[f'{place}/._{base}'] = b'\0\5\26\7'
      clutter[f'{place}/.DS_Store'] = b'\0\0\0\1Bud1'
      clutter[f'__MACOSX/{place}/._{base}'] = b'\0\5\26\7'
      clutter[f'__MACOSX/{name}'] = b'\0\5\26\7'
  return files | clutter


@pytest.mark.parametrize('name', FILES)
def test_every_source_gives_the_same_records(name, tmp_path):
  files = FILES[name]()
  zipped = write_zip(tmp_path / 'source.zip', files)
  expected = prepared(name, zipped, tmp_path / 'zip')
  assert {split: len(expected[split]) for split in SIZES} == SIZES
  for i, (kind, write) in enumerate(SOURCES.items()):
    source = write(tmp_path / f'source{i}', with_clutter(files))
    assert prepared(name, source, tmp_path / f'data{i}') == expected, kind
  # The folder above it, and names as from `tar -C FOLDER -c .`.
  (tmp_path / 'above').mkdir()
  write_folder(tmp_path / 'above' / 'folder', files)
  above = str(tmp_path / 'above')
  assert prepared(name, above, tmp_path / 'data_above') == expected
  dotted = {f'./{name}': content for name, content in files.items()}
  source = write_tar(tmp_path / 'dotted.tar', dotted)
  assert prepared(name, source, tmp_path / 'data_dotted') == expected


BAD = {
  'cone/train/cone_0003': b'OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 -2',
  'box/test/box_0000': b'',
  'torus/train/torus_0011': b'OFF\n' + b'1 ' * 1000,
}


@pytest.mark.parametrize('kind', [kind for kind in SOURCES if kind != 'zip'])
def test_damaged_members_are_skipped_and_named_as_in_a_zip(kind, tmp_path):
  files = mesh_files(MANY)
  for name, content in BAD.items():
    files[f'ModelNet40/{name}.off'] = content
  expected = prepared('many', write_zip(tmp_path / 'z', files), tmp_path / 'a')
  skipped = json.loads(expected['metadata.json'])['skipped']
  assert list(skipped) == sorted(BAD)
  assert 'from -2 to 1' in skipped['cone/train/cone_0003']
  source = SOURCES[kind](tmp_path / 'source', files)
  assert prepared('many', source, tmp_path / 'b') == expected


@pytest.mark.slow
@pytest.mark.parametrize(
  ('name', 'other'),
  [('tiny', 'tgz'), ('tiny_hdf5', 'folder'), ('tiny_text', 'tar')],
)
def test_a_run_is_the_same_as_from_a_zip(name, other, tmp_path):
  """Two steps and an evaluation, to the bit."""
  results = []
  for kind in ('zip', other):
    source = SOURCES[kind](tmp_path / f'in_{kind}', FILES[name]())
    data_dir = str(tmp_path / kind)
    prepare(name, source, data_dir)
    config = {'task.dataset': name, 'train.steps': 2, 'train.log_every': 1}
    run = create(tiny(data_dir, **config))
    workdir = str(tmp_path / f'run_{kind}')
    metrics = train.train(run, workdir)
    losses = [
      record['loss']
      for record in telemetry.read_metrics(workdir)
      if record['split'] == 'train'
    ]
    assert len(losses) == 2
    assert metrics['test']['count'] == SIZES['test']
    results.append((losses, metrics['test']['loss']))
  assert results[0] == results[1]
