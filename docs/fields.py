"""What Griffe, which reads the code for mkdocstrings, is told of our fields.

The fields of a dataclass have their comments behind them or in the lines above.
On the page of the API these become the descriptions of its arguments.
"""

import re
from typing import Any

import griffe

BEHIND = re.compile(r'.*  # (.+)')  # Two spaces, as in no string of ours.
ABOVE = re.compile(r' *# (.+)')


class Fields(griffe.Extension):
  """Called by Griffe with what it finds."""

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
  """Of the field in a line of the module; '' if it has none."""
  lines = cls.lines[: line - (cls.lineno or 0) + 1]
  found = []
  if behind := BEHIND.fullmatch(lines.pop()):
    found.append(behind[1])
  while above := ABOVE.fullmatch(lines.pop()):
    found.insert(0, above[1])
  return ' '.join(found)
