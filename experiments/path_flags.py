"""Flags whose values are paths.

A shell expands `~` at the start of a word only, not in --workdir=~/runs, and an
unset variable leaves --workdir= empty.
"""

from collections.abc import Sequence
from typing import Any

from absl import flags
from ml_collections import config_flags
from ml_collections.config_flags import config_flags as config_parsing

from experiments import storage

# absl's --help lists the flags with the modules that call this one.
flags.disclaim_key_flags()


class _PathParser(flags.ArgumentParser):
  """Parses a flag whose value is a path."""

  def __init__(self, name: str):
    self._name = name

  def parse(self, argument: str) -> str:
    return _expand_flag(argument, self._name)


class _PathsParser(flags.ListParser):
  """Parses a flag whose value is a list of paths."""

  def __init__(self, name: str):
    super().__init__()
    self._name = name

  def parse(self, argument: str | list[str]) -> list[str]:
    paths = [''] if argument == '' else super().parse(argument)
    return [_expand_flag(path, self._name) for path in paths]


class _ConfigParser(config_parsing.ConfigFileFlagParser):
  """Parses a flag whose value is a config file, or FILE:VARIANT."""

  def parse(self, path: str) -> Any:
    return super().parse(_expand_flag(path, self.name))


def _expand_flag(path: str, name: str) -> str:
  try:
    return storage.expand(path, f'--{name}')
  except ValueError as error:
    # absl would repeat the flag before the text of a ValueError.
    raise flags.IllegalFlagValueError(str(error)) from error


def define_path(
  name: str, default: str | None, help_text: str, required: bool = False
) -> flags.FlagHolder:
  """Defines a flag whose value is a path, expanded by `storage.expand`."""
  return flags.DEFINE(
    _PathParser(name),
    name,
    default,
    help_text,
    serializer=flags.ArgumentSerializer(),
    required=required,
  )


def define_paths(
  name: str, default: Sequence[str], help_text: str
) -> flags.FlagHolder:
  """Defines a flag whose value is a list of such paths."""
  return flags.DEFINE(
    _PathsParser(name),
    name,
    list(default),
    help_text,
    serializer=flags.CsvListSerializer(','),
  )


def define_config(
  name: str, default: str | None, help_text: str
) -> flags.FlagHolder:
  """Defines a flag whose value is FILE or FILE:VARIANT of a config."""
  holder = config_flags.DEFINE_config_file(name, default, help_text)
  flags.FLAGS[name].parser = _ConfigParser(name)
  return holder
