"""Descriptions of dataclass fields for the page of the API.

A field's comment is behind it or in the lines above. This extension of Griffe,
which reads the code for mkdocstrings, makes it the argument's description.
"""

import re
from typing import Any

import griffe

BEHIND = re.compile(r'.*  # (.+)')  # Two spaces, as in no string of ours.
ABOVE = re.compile(r' *# (.+)')


class Fields(griffe.Extension):
  """An extension whose methods Griffe calls."""

  def on_class_members(self, *, cls: griffe.Class, **_: Any) -> None:
    """Adds a section to the docstring of a class that has fields."""
    if cls.docstring is None:
      return
    arguments = [
      f'  {name}: {comment}'
      for name, member in cls.members.items()
      if member.is_attribute
      and 'instance-attribute' in member.labels  # No ClassVar.
      and (comment := _comment(cls, member.lineno or 0))
    ]
    if arguments:
      cls.docstring.value += '\n\nArgs:\n' + '\n'.join(arguments)


def _comment(cls: griffe.Class, line: int) -> str:
  """Returns the comment of the field in this line, '' if it has none."""
  lines = cls.lines[: line - (cls.lineno or 0) + 1]
  found = []
  if behind := BEHIND.fullmatch(lines.pop()):
    found.append(behind[1])
  while above := ABOVE.fullmatch(lines.pop()):
    found.insert(0, above[1])
  return ' '.join(found)
