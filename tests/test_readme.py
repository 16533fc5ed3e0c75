"""README's map, tables and pictures agree with the project."""

import re

import pytest

from scripts.tables import formats
from tests import quick
from tests.conftest import ROOT


def places():
  """Yields the paths on the map: names with .py or a slash, by indentation."""
  text = (ROOT / 'README.md').read_text()
  _, _, text = text.partition('## Map of the house\n\n```text\n')
  folders = []
  for line in text.partition('\n```')[0].splitlines():
    depth = (len(line) - len(line.lstrip())) // 2
    folders = folders[:depth]
    for name in re.findall(r'(?<!\S)\w+(?:/|\.py)(?=[\s:;]|$)', line):
      yield '/'.join([*folders, name])
      if name.endswith('/'):
        folders.append(name.rstrip('/'))


def test_what_is_on_the_map_exists():
  drawn = list(places())
  assert len(drawn) > 30
  assert [place for place in drawn if not (ROOT / place).exists()] == []


def test_what_exists_is_on_the_map():
  drawn = {place.rstrip('/') for place in places()}
  for folder in ('perceiver', 'experiments', 'experiments/benchmarks'):
    for path in (ROOT / folder).iterdir():
      name = str(path.relative_to(ROOT))
      if path.suffix == '.py' and path.stem != '__init__':
        assert name in drawn
      if (path / '__init__.py').exists():
        assert name in drawn


@pytest.mark.parametrize('table', quick.only([2, 3, 4], [1, 2, 3, 4]))
def test_its_tables_are_those_that_the_command_prints(table):
  assert formats.markdown(table) in (ROOT / 'README.md').read_text()


def test_its_pictures_are_there_and_say_what_they_show():
  text = (ROOT / 'README.md').read_text()
  pictures = re.findall(r'!\[(.+)\]\((.+)\)', text)
  pictures += [
    (alt, path)
    for path, alt in re.findall(r'<img src="(.+?)".* alt="(.+?)"', text)
  ]
  assert len(pictures) == 3
  assert all((ROOT / path).stat().st_size for _, path in pictures)
