"""Reads files of labels: a line has an image's name and its class.

The class is the name of its folder in train/, or its number, which counts the
sorted names from 0.
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

FILES = ('LOC_val_solution.csv', 'val.txt')
# 'name.JPEG class', where both may have spaces in them; or 'name class'.
_LINE = re.compile(r'(.+?\.jpe?g|[^\s,]+)(?:\s*,\s*|\s+)(\S.*)', re.IGNORECASE)
# Kaggle's PredictionString: a wnid and a box for each object.
_BOXES = re.compile(r'(\S+)(\s+\d+){4}(\s+\S+(\s+\d+){4})*')


class Label(NamedTuple):
  """The class that a file of labels gives to an image, and the line."""

  text: str  # Name of the class, or its number.
  line: int  # In the file; the first one is 1.


def read(path: str, classes: Collection[str]) -> dict[str, Label]:
  """Reads labels by image name, without folder and suffix.

  The file is text, or CSV like Kaggle's. Names of classes may have spaces.

  Raises:
    ValueError: if a line has no label, or two lines give an image different
      ones.
    OSError: if the file cannot be read.
  """
  labels: dict[str, Label] = {}
  for number, name, text in _lines(path):
    stem = os.path.splitext(os.path.basename(name))[0]
    if text not in classes and (boxes := _BOXES.fullmatch(text)):
      text = boxes[1]
    other = labels.setdefault(stem, Label(text, number))
    if other.text != text:
      raise ValueError(
        f'{path}, line {number}: the class of {stem} is {text!r}, but in line'
        f' {other.line} it is {other.text!r}. Remove one of them.'
      )
  return labels


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
