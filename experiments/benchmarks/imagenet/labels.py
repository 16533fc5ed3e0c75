"""Reads files of labels: a line has an image's name and its class.

The class is the name of its folder in train/, or its number, which counts the
sorted names from 0. The file of ILSVRC2012's development kit has neither: its
lines are ids, in the order of the images' names.
"""

import codecs
from collections.abc import Collection, Iterator, Mapping, Sequence
import csv
import os
import re
from typing import NamedTuple

from experiments.benchmarks.imagenet.known import (
  known_validation_labels,
  known_wnids,
)
from experiments.benchmarks.listing import shown

GROUND_TRUTH = 'ILSVRC2012_validation_ground_truth.txt'
FILES = (
  'LOC_val_solution.csv',  # Kaggle's.
  'val.txt',
  'meta/val.txt',  # As mmpretrain has it.
  'val_annotations.txt',  # Tiny ImageNet's.
  GROUND_TRUTH,
  f'ILSVRC2012_devkit_t12/data/{GROUND_TRUTH}',
)
MAX_BYTES = 256 * 2**20  # ImageNet's own files of labels have 2 MB.
# 'name.JPEG class', where both may have spaces in them; or 'name class'.
_LINE = re.compile(
  r'(.+?\.(?:jpe?g|png)|[^\s,]+)(?:\s*,\s*|\s+)(\S.*)', re.IGNORECASE
)
# A wnid and a box for each object: Kaggle's PredictionString, and what follows
# the image's name in Tiny ImageNet's lines.
_BOXES = re.compile(r'(\S+)(\s+\d+){4}(\s+\S+(\s+\d+){4})*')


class Label(NamedTuple):
  """The class that a file of labels gives to an image, and the line."""

  text: str  # Name of the class, or its number.
  line: int  # In the file; the first one is 1.


def read(path: str, classes: Collection[str]) -> dict[str, Label]:
  """Reads labels by image name, without folder and suffix.

  The file is text, or CSV like Kaggle's, or GROUND_TRUTH. Names of classes may
  have spaces.

  Raises:
    ValueError: if a line has no label, or two lines give an image different
      ones, or an id of GROUND_TRUTH is not of its image's class.
    OSError: if the file cannot be read.
  """
  if os.path.basename(path) == GROUND_TRUTH:
    return _read_ground_truth(path)
  labels: dict[str, Label] = {}
  for number, name, text in _lines(path):
    key = stem(name)
    if text not in classes and (boxes := _BOXES.fullmatch(text)):
      text = boxes[1]
    other = labels.setdefault(key, Label(text, number))
    if other.text != text:
      raise ValueError(
        f'{path}, line {number}: the class of {key} is {text!r}, but in line'
        f' {other.line} it is {other.text!r}. Remove one of them.'
      )
  return labels


def stem(path: str) -> str:
  """Returns a file's name without its folders and suffix."""
  return os.path.splitext(os.path.basename(path))[0]


def _read_ground_truth(path: str) -> dict[str, Label]:
  """Reads the ids of the 50,000 validation images, one in each line.

  Only the kit's meta.mat says which wnid an id stands for. But the wnids of
  these images are known, so they tell; each id must be of one wnid throughout.
  """
  known = known_validation_labels()
  rows = [','.join(row).strip() for _, row in _rows(path)]
  while rows and not rows[-1]:
    rows.pop()
  if len(rows) != len(known):
    raise ValueError(
      f'{path} has {len(rows)} lines, but there are {len(known)} validation'
      ' images, each with its ILSVRC2012_ID in a line. Unpack the development'
      ' kit again, or remove the file.'
    )
  ids: dict[str, Label] = {}  # By wnid.
  wnids: dict[str, Label] = {}  # By id.
  for number, (name, wnid) in enumerate(known.items(), 1):
    row = rows[number - 1]
    by_wnid = ids.setdefault(wnid, Label(row, number))
    by_id = wnids.setdefault(row, Label(wnid, number))
    if (by_wnid.text, by_id.text) != (row, wnid):
      other = by_id if by_wnid.text == row else by_wnid
      raise ValueError(
        f'{path}, line {number}: {name} is of the class {wnid}, but its'
        f' ILSVRC2012_ID is {row!r}, which contradicts line {other.line}.'
        ' Unpack the development kit again, or remove the file.'
      )
  return {x: Label(y, i) for i, (x, y) in enumerate(known.items(), 1)}


def indices(
  path: str, labels: Mapping[str, Label], classes: Sequence[str]
) -> list[int]:
  """Returns the indices of the classes that labels name or number.

  If all labels are names of classes, each means the class of that name, even if
  it is also the number of another class. If some are numbers, a label that
  could be either must mean the same class both ways.

  The names of the classes are sorted. Messages have the path. Raises ValueError
  for labels that are no class, or could mean either of two.
  """
  by_name = {name: i for i, name in enumerate(classes)}
  by_number = {str(i): i for i in range(len(classes))}
  readings = by_number | by_name  # Names come first.
  in_order = sorted(labels.values(), key=lambda label: label.line)
  unknown = [x for x in in_order if x.text not in readings]
  if unknown:
    raise ValueError(
      f'{path} has labels that are neither one of the {len(classes)} classes'
      f' nor the number of one: {shown(sorted({x.text for x in unknown}))}. The'
      f' first is in line {unknown[0].line}. Classes are named as their folders'
      f' are, such as {classes[0]!r}, or numbered from 0 to'
      f' {len(classes) - 1} in the order of these names.'
    )
  numbers = [x for x in in_order if x.text not in by_name]
  if numbers:
    first: dict[str, Label] = {}  # By text: there are far fewer than images.
    for label in in_order:
      first.setdefault(label.text, label)
    for label in first.values():
      _check_is_clear(path, label, numbers[0], classes, by_number)
    _check_known(path, labels, by_name, by_number)
  return [readings[x.text] for x in labels.values()]


def _check_is_clear(
  path: str,
  label: Label,
  number: Label,
  classes: Sequence[str],
  by_number: Mapping[str, int],
) -> None:
  """Raises ValueError if a label could be a name or another class's number.

  `number` is a label of the file that can only be a number.
  """
  index = by_number.get(label.text)
  if index is None:
    return
  for i, name in enumerate(classes):
    if i != index and _is_called(name, label.text):
      raise ValueError(
        f'{path}, line {label.line}: {label.text!r} could be the class'
        f' {name!r} by its name, or the class {classes[index]!r} by its number,'
        f' which counts the sorted names from 0; line {number.line} has'
        f' {number.text!r}, which is not a name. Write the name of the class,'
        ' as its folder has it, in every line.'
      )


def _is_called(name: str, label: str) -> bool:
  """Whether a label may mean a name: 1 may mean '01'."""
  return name == label or (
    name.isdecimal() and label.isdecimal() and int(name) == int(label)
  )


def _check_known(
  path: str,
  labels: Mapping[str, Label],
  by_name: Mapping[str, int],
  by_number: Mapping[str, int],
) -> None:
  """Raises ValueError if ImageNet's own images have other numbers than theirs.

  ILSVRC2012's ids are numbers too, from 1 on and in another order.
  """
  if list(by_name) != known_wnids():
    return
  known = known_validation_labels()
  for stem, label in labels.items():
    index, wnid = by_number.get(label.text), known.get(stem)
    if index is not None and wnid is not None and by_name[wnid] != index:
      raise ValueError(
        f'{path}, line {label.line}: {stem} is of the class {wnid}, number'
        f' {by_name[wnid]} of the sorted names from 0 on, but its label is'
        f' {label.text!r}. ILSVRC2012_ID, which counts in another order, is'
        ' not accepted: write wnids, or remove the file: the 50,000 validation'
        ' images do not need it.'
      )


def _lines(path: str) -> Iterator[tuple[int, str, str]]:
  """Yields each line's number, image name and class."""
  for number, row in _rows(path):
    line = ','.join(row).strip()
    if not line or line.startswith('ImageId'):  # Kaggle's header.
      continue
    if len(row) > 1:
      name, text = row[0].strip(), ','.join(row[1:]).strip()
    else:
      match = _LINE.fullmatch(line)
      name, text = match.groups() if match else ('', '')
    if not name or not text:
      raise ValueError(
        f'{path}, line {number}: expected an image name and its class, found'
        f' {line!r}.'
      )
    yield number, name, text


def _rows(path: str) -> Iterator[tuple[int, list[str]]]:
  """Yields each line's number and fields; a line of plain text is one field."""
  if (size := os.path.getsize(path)) > MAX_BYTES:
    raise ValueError(
      f'{path} has {size} bytes; of labels, at most {MAX_BYTES} are read.'
    )
  with open(path, 'rb') as file:
    start = file.read(2)
  # PowerShell writes UTF-16. Other names are decoded as `os.fsdecode` does.
  encoding, errors = 'utf-8-sig', 'surrogateescape'
  if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
    encoding, errors = 'utf-16', 'strict'
  with open(path, encoding=encoding, errors=errors, newline='') as file:
    rows: Iterator[list[str]] = ([line] for line in file)
    if path.lower().endswith('.csv'):
      rows = csv.reader(file)
    try:
      yield from enumerate(rows, 1)
    except (csv.Error, UnicodeError) as error:
      raise ValueError(f'{path} is not a text of labels: {error}.') from error
