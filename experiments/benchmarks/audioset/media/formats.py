"""Formats of media files: which ones are read, and how others begin."""

import re

# FFmpeg's names; mov is mp4's too, matroska webm's. Other formats may refer to
# further files, or to the network.
FORMATS = 'mov,matroska,wav'
TAKEN = 'mp4, mkv, webm and wav are read'
DAMAGED = re.compile(  # Files of FORMATS begin so.
  rb'\x1aE\xdf\xa3|RIFF....WAVE|....(ftyp|moov|moof|mdat|free|skip|wide)',
  re.DOTALL,
)
OTHERS = {
  'flac': rb'fLaC',
  'ogg (opus or vorbis)': rb'OggS',
  'mp3': rb'ID3|\xff[\xf2\xf3\xfa\xfb]',
  'aac': rb'\xff[\xf0\xf1\xf8\xf9]',
  'aiff': rb'FORM....AIF',
  'avi': rb'RIFF....AVI ',
  'flv': rb'FLV',
}


def describe(path: str) -> str | None:
  """Says what an unreadable file is; None if it must be damaged."""
  with open(path, 'rb') as file:
    start = file.read(12)
  if not start:
    return 'it is empty'
  if DAMAGED.match(start):
    return None
  for name, pattern in OTHERS.items():
    if re.match(pattern, start, re.DOTALL):
      return f'it is {name}; {TAKEN}'
  return f'it begins with {start!r}; {TAKEN}'
