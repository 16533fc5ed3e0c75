"""Asks `scripts.predict`, and makes files to ask it about."""

import io
import json
import os
import struct
import zlib

import numpy as np
from PIL import Image

from experiments import saved
from scripts import predict


def ask(workdir, *arguments, form='jsonl', **settings):
  """Returns counts, answers (JSON is parsed by line) and standard error."""
  output, errors = io.StringIO(), io.StringIO()
  counts = predict.predict(
    str(workdir),
    [os.fspath(x) for x in arguments],
    form=form,
    output=output,
    errors=errors,
    **settings,
  )
  answers = output.getvalue()
  if form == 'jsonl':
    answers = [json.loads(line) for line in answers.splitlines()]
  return counts, answers, errors.getvalue()


def png(pixels):
  file = io.BytesIO()
  Image.fromarray(pixels).save(file, 'PNG')
  return file.getvalue()


def digit(record):
  return np.round(record['image'] * 255 / 16).astype(np.uint8)


def bomb(width=60_000, height=60_000):
  """Returns a PNG file whose header has this size, without any content."""
  chunks = b''
  size = struct.pack('>IIBBBBB', width, height, 8, 0, 0, 0, 0)
  for name, data in (
    (b'IHDR', size),
    (b'IDAT', zlib.compress(b'\0' * 100)),
    (b'IEND', b''),
  ):
    checksum = struct.pack('>I', zlib.crc32(name + data))
    chunks += struct.pack('>I', len(data)) + name + data + checksum
  return b'\x89PNG\r\n\x1a\n' + chunks


def check_agreement(run, workdir, split, paths, **settings):
  """Checks that files of all records get the answers of evaluation."""
  saved.evaluate_checkpoint(run, str(workdir))
  with np.load(workdir / f'predictions_{split}.npz') as file:
    expected = dict(file)
  assert expected['record'].tolist() == list(range(len(paths)))
  counts, answers, errors = ask(workdir, *paths, **settings)
  assert (counts.answered, counts.refused, errors) == (len(paths), 0, '')
  assert [a['path'] for a in answers] == [str(path) for path in paths]
  names = saved.class_names(run, str(workdir))
  for i, answer in enumerate(answers):
    found = answer['predictions']
    assert [p['class'] for p in found] == expected['classes'][i].tolist()
    assert [p['name'] for p in found] == [names[p['class']] for p in found]
    scores = [p['score'] for p in found]
    # Batches of another size, in float32, round differently.
    np.testing.assert_allclose(scores, expected['scores'][i], atol=1e-5)
