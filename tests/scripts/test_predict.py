"""`scripts.predict` gives the answers of evaluation for files of any kind."""

import io
import json
import os
import shutil
import zipfile

import numpy as np
from PIL import Image
import pytest

from experiments.benchmarks.audioset import preparation as audioset_preparation
from experiments.benchmarks.modelnet40 import preparation
from experiments.benchmarks.modelnet40 import source as modelnet40
from scripts import predict
from tests import commands
from tests.benchmarks.audioset.media import media, noise
from tests.benchmarks.audioset.test_preparation import write_sources
from tests.benchmarks.audioset.test_task import create as create_audioset
from tests.benchmarks.modelnet40.archives import mesh_files, TINY, write_zip
from tests.benchmarks.modelnet40.test_task import create as create_modelnet40
from tests.benchmarks.modelnet40.test_task import tiny
from tests.scripts import untrained
from tests.scripts.prediction import (
  ask,
  bomb,
  check_agreement,
  digit,
  png,
)


@pytest.fixture(scope='module')
def digits(trained, tmp_path_factory):
  """Copies a smoke run, which is evaluated again."""
  run, workdir, _ = trained
  return run, shutil.copytree(
    workdir, tmp_path_factory.mktemp('digits') / 'run'
  )


@pytest.fixture(scope='module')
def solids(tmp_path_factory):
  """Returns a run on a tiny archive of meshes, and the folder of the meshes."""
  folder = tmp_path_factory.mktemp('solids')
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(modelnet40.DATASETS, 'tiny', TINY)
    source = write_zip(folder / 'tiny.zip', mesh_files())
    preparation.prepare('tiny', source, str(folder))
    with zipfile.ZipFile(source) as archive:
      archive.extractall(folder)
    run = create_modelnet40(tiny(str(folder)))
    untrained.save(run, folder / 'run')
    yield run, folder / 'run', folder / 'ModelNet40'


@pytest.mark.slow
def test_all_digits_get_what_evaluation_says(digits, tmp_path):
  run, workdir = digits
  paths = []
  for i, record in enumerate(run.source('test')):
    paths.append(tmp_path / f'{i:03}.png')
    paths[-1].write_bytes(png(digit(record)))
  check_agreement(run, workdir, 'test', paths)
  # The folder has the same files, in the order of their names.
  _, answers, _ = ask(workdir, tmp_path, batch_size=100, top=1)
  assert [a['path'] for a in answers] == [str(path) for path in paths]
  assert all(len(a['predictions']) == 1 for a in answers)
  # A terminal sees the progress.
  terminal = io.StringIO()
  terminal.isatty = lambda: True
  predict.predict(
    str(workdir), [str(tmp_path)], output=io.StringIO(), errors=terminal
  )
  assert '360/360' in terminal.getvalue()
  # Exported, a value comes back as it was.
  values = np.arange(64, dtype=np.float32).reshape(8, 8) % 17
  paths[0].write_bytes(png(digit({'image': values})))
  ((_, back),) = run.task.file_reader.read([str(paths[0])])
  np.testing.assert_array_equal(back['image'], values)


def test_all_meshes_get_what_evaluation_says(solids):
  run, workdir, folder = solids
  names = [record['name'].decode() for record in run.source('test')]
  paths = [folder / f'{name}.off' for name in names]
  check_agreement(run, workdir, 'test', paths, batch_size=4)


@pytest.mark.slow
def test_all_clips_get_what_evaluation_says(tmp_path):
  images = [np.full((32, 32, 3), 20 * i, np.uint8) for i in range(10)]
  write_sources(
    tmp_path,
    {
      f'-clip{i:06}.mkv': media(
        times=np.arange(10) / 25 if i != 4 else None,
        images=images[i:] + images[:i],
        samples=noise(19_200, seed=i) if i != 5 else None,
      )
      for i in range(6)
    },
  )
  audioset_preparation.prepare(
    str(tmp_path / 'clips'), str(tmp_path), str(tmp_path / 'data'), 2
  )
  run = create_audioset(
    **{
      'data.dir': str(tmp_path / 'data'),
      'task.num_classes': 2,
      'task.num_train': 3,
      'task.num_eval': 3,
      'train.batch_size': 2,
    },
  )
  workdir = tmp_path / 'run'
  untrained.save(run, workdir)
  ids = [record['id'] for record in run.source('eval')]
  paths = [tmp_path / 'clips' / f'{x}.mkv' for x in ids]
  check_agreement(run, workdir, 'eval', paths, batch_size=2)
  # Results keep their order, whether files are answered or refused.
  broken, text = tmp_path / 'clips' / 'b.mkv', tmp_path / 'clips' / 'c.mp4'
  broken.write_bytes(paths[0].read_bytes()[:300])
  text.write_text('no clip')
  os.mkfifo(tmp_path / 'clips' / 'd.wav')
  counts, answers, errors = ask(workdir, tmp_path / 'clips')
  assert (counts.answered, counts.refused) == (6, 3)
  order = [os.path.basename(a['path']) for a in answers]
  assert order == sorted(os.listdir(tmp_path / 'clips'))
  assert ['error' in a for a in answers] == [False] * 6 + [True] * 3
  assert 'It is not a regular file.' in errors


def test_damaged_images_are_refused_and_all_others_answered(digits, tmp_path):
  rng = np.random.default_rng(0)
  whole = [png(x) for x in rng.integers(256, size=(20, 16, 12), dtype=np.uint8)]
  eps = io.BytesIO()
  Image.new('L', (8, 8)).save(eps, 'EPS')
  damages = [
    whole[0][: len(whole[0]) // 2],
    b'',
    b'just some text',
    eps.getvalue(),
    bomb(),
  ]
  bad = set(rng.choice(1000, 50, replace=False).tolist())
  for i in range(1000):
    folder = tmp_path / f'{i // 100}'
    folder.mkdir(exist_ok=True)
    content = damages[i % 5] if i in bad else whole[i % 20]
    (folder / f'{i:03}.{("png", "JPG", "jpeg")[i % 3]}').write_bytes(content)
    (folder / 'notes.txt').write_text('not taken')
  counts, answers, errors = ask(digits[1], tmp_path)
  assert (counts.answered, counts.refused) == (950, 50)
  assert len(answers) == 1000
  for i, answer in enumerate(answers):
    assert os.path.splitext(os.path.basename(answer['path']))[0] == f'{i:03}'
    assert ('error' in answer) == (i in bad)
    assert ('predictions' in answer) == (i not in bad)
  refused = [x for x in errors.splitlines() if x.startswith('Refused ')]
  assert len(refused) == 50
  assert errors.endswith('950 answered, 50 refused.\n')
  assert 'decompression bomb' in errors
  assert errors.startswith('Not taken from folders: 10 .txt; only .avif, .bmp,')


@pytest.mark.slow
def test_hostile_names_and_folders_do_nothing(digits, tmp_path):
  run, workdir = digits
  image = png(digit(run.source('test')[0]))
  folder = tmp_path / 'in'
  (folder / 'x.png').mkdir(parents=True)
  names = [
    b'<script>alert(1)</script>.png',
    b'\x1b[2Jgone\nnew line.png',
    b'no utf-8 \xff.png',
    'ünïcode\u202e.png'.encode(),
    b'x.png/inside.PNG',
  ]
  for name in names:
    path = os.path.join(os.fsencode(folder), name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'wb') as file:
      file.write(image)
  # Whatever is in them, these are passed over.
  for name in ('._x.png', '.hidden/x.png', '__MACOSX/x.png'):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(image)
  os.mkfifo(folder / 'fifo.png')
  (folder / 'link.png').symlink_to(folder / 'link.png')
  (folder / 'loop').symlink_to(folder)
  (folder / 'bomb.png').write_bytes(bomb())
  counts, answers, errors = ask(workdir, folder)
  assert (counts.answered, counts.refused) == (5, 3)
  answered = {os.fsencode(a['path']) for a in answers if 'predictions' in a}
  assert answered == {os.path.join(os.fsencode(folder), x) for x in names}
  refused = {os.path.basename(a['path']): a for a in answers if 'error' in a}
  assert refused.keys() == {'fifo.png', 'link.png', 'bomb.png'}
  counts, text, _ = ask(workdir, folder, form='text')
  assert counts.answered == 5
  assert '<script>alert(1)</script>.png\n' in text
  assert '\\x1b[2Jgone\\nnew line.png\n' in text
  assert '\\udcff.png\n' in text
  assert 'ünïcode\\u202e.png\n' in text
  assert all(x.isprintable() for x in text.replace('\n', ''))
  # A file and five classes: six lines.
  assert text.count('\n') == 6 * 5
  # A path named directly is tried: links are followed, with any suffix.
  (tmp_path / 'image').symlink_to(folder / 'x.png' / 'inside.PNG')
  counts, answers, errors = ask(
    workdir,
    tmp_path / 'image',
    tmp_path / 'missing.png',
    folder / 'link.png',
    'a\0b.png',
    folder / 'fifo.png',
  )
  assert ['error' in a for a in answers] == [False, True, True, True, True]
  assert 'missing.png: No such file' in errors
  assert counts.refused == 4


def test_nothing_to_classify_is_one_clear_error(digits, tmp_path):
  for arguments, settings in (
    ([], {}),
    ([tmp_path], {}),
    (['-'], {'lines': [b'\n']}),
  ):
    with pytest.raises(FileNotFoundError, match='No files to classify'):
      ask(digits[1], *arguments, **settings)
  with pytest.raises(FileNotFoundError, match='not the workdir of a run'):
    ask(tmp_path, tmp_path)
  for name in ('1.heic', '2.HEIC', 'README', '.DS_Store'):
    (tmp_path / name).touch()
  with pytest.raises(
    FileNotFoundError,
    match=r'\(\.avif, .*\)\. Found: 2 \.heic, 1 without a suffix\.',
  ):
    ask(digits[1], tmp_path)


def test_paths_come_from_standard_input(digits, tmp_path):
  run, workdir = digits
  path, other = tmp_path / 'a.png', tmp_path / 'folder' / 'b.png'
  other.parent.mkdir()
  for x in (path, other):
    x.write_bytes(png(digit(run.source('test')[0])))
  lines = [f'{path}\n'.encode(), b'\n', f'{other.parent}\r\n'.encode()]
  _, answers, _ = ask(workdir, '-', path, lines=lines)
  assert [a['path'] for a in answers] == [str(path), str(other), str(path)]


def test_the_command_answers_and_says_by_its_status_if_all_were(
  digits, tmp_path, monkeypatch
):
  run, workdir = digits
  path = tmp_path / 'a.png'
  path.write_bytes(png(digit(run.source('test')[0])))
  lines = io.TextIOWrapper(io.BytesIO(f'{path}\n'.encode()))
  monkeypatch.setattr('sys.stdin', lines)
  flags = [f'--workdir={workdir}', '--top=3', '--format=jsonl']
  result = commands.run('scripts.predict', *flags, '-', 'none.png')
  assert result.returncode == 1
  answer, refusal = map(json.loads, result.stdout.splitlines())
  assert len(answer['predictions']) == 3
  assert refusal == {'path': 'none.png', 'error': 'No such file or directory'}
  assert 'Refused none.png: No such file' in result.stderr
  assert '1 answered, 1 refused.' in result.stderr
  assert 'files/s' not in result.stderr  # It is no terminal.


def test_the_status_is_0_if_all_were_answered(monkeypatch):
  asked = []

  def answer(workdir, arguments, **settings):
    asked.append((workdir, arguments, settings))
    return predict.Counts(3, 0)

  monkeypatch.setattr(predict, 'predict', answer)
  lines = io.TextIOWrapper(io.BytesIO())
  monkeypatch.setattr('sys.stdin', lines)
  flags = ['--workdir=w', '--top=2', '--batch_size=4', '--checkpoint=best']
  result = commands.run('scripts.predict', *flags, 'a', '-')
  assert result.returncode == 0
  ((workdir, arguments, settings),) = asked
  assert (workdir, arguments) == ('w', ['a', '-'])
  assert settings == {
    'lines': lines.buffer,
    'top': 2,
    'batch_size': 4,
    'checkpoint': 'best',
    'form': 'text',
  }
