"""What people would ask `scripts.predict`, and files to ask it about."""

import io
import json
import os
import struct
import zlib

import numpy as np
from PIL import Image

from scripts import predict


class Terminal(io.StringIO):
  def isatty(self):
    return True


def ask(workdir, *arguments, form='jsonl', **settings):
  """The counts, the answers (of JSON: by line) and what is said of refusals."""
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
  """A PNG file whose header says so, with nothing in it."""
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
