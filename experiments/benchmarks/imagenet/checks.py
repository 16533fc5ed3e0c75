"""Compares the images that were found with those that a config expects."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
import os

from experiments.benchmarks import listing
from experiments.benchmarks.imagenet import labels
from experiments.benchmarks.imagenet.known import known_wnids, NUM_CLASSES

SUFFIXES = ('.jpeg', '.jpg', '.png')  # Of names in lower case.
COUNT_KEYS = {'train': 'task.num_train', 'validation': 'task.num_eval'}


class WrongNumberError(ValueError):
  """A data set has other numbers of classes or images than its config."""


def check_classes(
  place: str,
  found: Sequence[str],
  num_classes: int | None,
  others: Sequence[str] = (),
  hint: str = '',
) -> None:
  """Raises WrongNumberError unless there are `num_classes` classes.

  None stands for any number but 0. The message compares the classes with
  ImageNet's, or else with `others`.
  """
  if not found or len(found) != (num_classes or len(found)):
    expected = known_wnids() if num_classes == NUM_CLASSES else others
    raise WrongNumberError(
      f'{place} has {len(found)} classes{_but("task.num_classes", num_classes)}'
      f'{_difference(found, expected) if expected else ""}.{hint}'
    )


def check_examples(
  place: str,
  split: str,
  found: int,
  num_examples: int | None,
  found_classes: Iterable[str] = (),
  classes: Iterable[str] = (),
  hint: str = '',
) -> None:
  """Raises WrongNumberError unless there are `num_examples` examples.

  None stands for any number but 0.
  """
  if not found or found != (num_examples or found):
    raise WrongNumberError(
      f'{place} has {found} images{_but(COUNT_KEYS[split], num_examples)}'
      f'{_difference(found_classes, classes)}.{hint}'
    )


def _but(key: str, expected: int | None) -> str:
  return '' if expected is None else f', but {key}={expected}'


def not_counted(folder: str, classes: Sequence[str] | None) -> str:
  """Says which of a split's files are not taken as images, if there are any.

  `classes` are the folders that should have the images; None: `folder` itself.
  """
  # Folders that must be between the split's and an image.
  depth = 0 if classes is None else 1
  numbers: Counter[str] = Counter()
  examples: dict[str, str] = {}
  for path in _files(folder, classes or ()):
    is_image = path.count(os.sep) >= depth and path.lower().endswith(SUFFIXES)
    if not is_image and path not in labels.FILES:
      suffix = os.path.splitext(path)[1].lower() or 'without a suffix'
      numbers[suffix] += 1
      examples.setdefault(suffix, path)
  if not numbers:
    return ''
  found = '; '.join(
    f'{number} {suffix}, such as {examples[suffix]}'
    for suffix, number in numbers.most_common(listing.SHOWN)
  )
  where = folder if classes is None else f'{folder}/<class>/'
  tars = (
    ' Unpack each tar into a folder of its name.' if '.tar,' in found else ''
  )
  return (
    f' Only .jpeg, .jpg and .png files (in capitals, too) below {where} are'
    f' images; there are also: {found}.{tars}'
  )


def _files(folder: str, classes: Sequence[str]) -> Iterator[str]:
  """Yields files relative to a folder, also below classes that are links."""
  links = [os.path.join(folder, name) for name in classes]
  for place in (folder, *filter(os.path.islink, links)):
    for parent, subfolders, names in os.walk(place):
      subfolders[:] = sorted(x for x in subfolders if not listing.is_clutter(x))
      for name in sorted(names):
        if not listing.is_clutter(name):
          yield os.path.relpath(os.path.join(parent, name), folder)


def _difference(found: Iterable[str], expected: Iterable[str]) -> str:
  missing = sorted(set(expected) - set(found))
  extra = sorted(set(found) - set(expected))
  return ''.join(
    f'; {what}: {listing.shown(names)}'
    for what, names in (('missing', missing), ('extra', extra))
    if names
  )
