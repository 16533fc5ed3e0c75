"""The formats of media files: which ones are taken, and how others begin."""

import re

# FFmpeg's names; mp4 is mov's, webm matroska's. Others may refer to further
# files, or to the network.
FORMATS = 'mov,matroska,wav'
TAKEN = 'mp4, mkv, webm and wav are taken'
DAMAGED = re.compile(  # One of them, all the same.
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
  """Says what a file is that cannot be opened; None if it must be damaged."""
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
