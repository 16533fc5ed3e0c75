"""Formats of media files: which ones are read, and how they begin."""

import re

# Preferred first: with pictures, then lossless sound, then compressed sound.
SUFFIXES = (
  *('.mp4', '.mkv', '.webm', '.mov', '.avi', '.ts'),
  *('.wav', '.flac'),
  *('.opus', '.m4a', '.ogg', '.mp3'),
)
TAKEN = f'{", ".join(SUFFIXES)} are read'
# How files begin, by FFmpeg's name of the format; mov is also mp4 and m4a,
# matroska webm, ogg opus. Other formats may refer to further files, or to the
# network.
FORMATS = {
  'mov': rb'....(ftyp|moov|moof|mdat|free|skip|wide)',
  'matroska': rb'\x1aE\xdf\xa3',
  'avi': rb'RIFF....AVI ',
  'mpegts': rb'G.{187}G',  # Packets of 188 bytes.
  'wav': rb'RIFF....WAVE',
  'flac': rb'fLaC',
  'ogg': rb'OggS',
  'mp3': rb'ID3|\xff[\xf2\xf3\xfa\xfb]',
}
OTHERS = {
  'aac': rb'\xff[\xf0\xf1\xf8\xf9]',
  'aiff': rb'FORM....AIF',
  'flv': rb'FLV',
  'wma or wmv': rb'0&\xb2u',
  'mpg': rb'\x00\x00\x01[\xb3\xba]',
}


def describe(path: str) -> str | None:
  """Says what an unreadable file is; None if it must be damaged."""
  with open(path, 'rb') as file:
    start = file.read(189)
  if not start:
    return 'it is empty'
  for name, pattern in (FORMATS | OTHERS).items():
    if re.match(pattern, start, re.DOTALL):
      return None if name in FORMATS else f'it is {name}; {TAKEN}'
  return f'it begins with {start[:12]!r}; {TAKEN}'
