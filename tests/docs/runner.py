"""Runs the commands of pages, as written, in a copy of the checkout."""

import contextlib
import importlib.metadata
import json
import os
import pathlib
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from unittest import mock

from tests.conftest import ROOT
from tests.docs import pages
from tests.docs.pages import Fence, Page, PageError

HERE = pathlib.Path(__file__).parent
FILES = ('Makefile', 'setup.py', 'README.md')
COPIED = ('configs', 'docs', 'experiments', 'perceiver', 'scripts', 'tests')
# Commands that are not checked.
OTHERS = ('cp', 'echo', 'find', 'gcloud', 'mkdir', 'sed', 'source', 'test')
TIMEOUT = 600  # Seconds; a guard against hanging, nothing is timed by it.


class Answerer:
  """A process that answers lines of JSON with lines of JSON."""

  def __init__(self, script: str, folder: pathlib.Path):
    self._process = subprocess.Popen(
      [sys.executable, '-P', '-W', 'ignore', HERE / script],
      cwd=folder,
      env=os.environ | {'PYTHONPATH': str(folder)},
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
    )

  def ask(self, question):
    self._process.stdin.write(json.dumps(question) + '\n')
    self._process.stdin.flush()
    return json.loads(self._process.stdout.readline())

  def close(self):
    self._process.stdin.close()
    self._process.wait(TIMEOUT)
    self._process.stdout.close()


class Checkout:
  """A copy of the checkout, to run pages in."""

  def __init__(self, folder: pathlib.Path):
    self.folder = folder
    ignore = shutil.ignore_patterns('__pycache__')
    for name in COPIED:
      shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    locks = ROOT.glob('requirements-*.lock')
    for path in (*map(ROOT.joinpath, FILES), *locks):
      shutil.copy(path, folder)
    self._done: set[str] = set()
    self._closing = contextlib.ExitStack()
    self._commander: Answerer | None = None

  def close(self) -> None:
    self._closing.close()

  def run(self, page: Page) -> None:
    """Runs all fences of a page, after those of the page that it follows.

    Raises:
      PageError: for the first fence that fails or prints something else.
    """
    if page.name in self._done:
      return
    if page.after:
      self.run(pages.read(page.after))
    with contextlib.ExitStack() as closing:
      session = None
      printed = None  # The output of the fence before; None: not compared.
      numbers = True  # Whether its numbers are compared, too.
      section = 0
      for fence in page.fences:
        if fence.section != section:
          section, printed = fence.section, None
        if fence.language == 'text':
          if printed is not None and (numbers or '…' in fence.code):
            compare(fence, printed)
          printed = None
        elif fence.title:
          (self.folder / fence.title).write_text(fence.code)
        elif fence.language == 'python':
          if session is None:
            session = Answerer('session.py', self.folder)
            closing.callback(session.close)
          printed, numbers = _run_snippet(session, fence), True
        else:
          printed = None if fence.needs else self._run(fence)
          numbers = not fence.shortened
    self._done.add(page.name)

  def check(self, page: Page) -> None:
    """Checks a page's commands without running them.

    Raises:
      PageError: for the first command with an error.
    """
    for fence in page.fences:
      if fence.title:
        (self.folder / fence.title).write_text(fence.code)
      elif fence.language == 'bash':
        for command in pages.commands(fence.script()):
          for part in re.split(r' \| | && ', command):
            good, *otherwise = part.split(' || ')
            problem = self.problem(good)
            # A command with || in it is meant to fail.
            if (problem is None) == bool(otherwise):
              raise PageError(f'{fence}: {command}\n{problem}')

  def _run(self, fence: Fence) -> str:
    script = fence.script()
    result = subprocess.run(
      ['bash', '-euo', 'pipefail', '-c', script],
      cwd=self.folder,
      env=os.environ
      | {
        'PATH': f'{_bin()}{os.pathsep}{os.environ["PATH"]}',
        # The commands of a page compile similar programs, even small ones.
        'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
      },
      stdin=subprocess.DEVNULL,
      capture_output=True,
      text=True,
      timeout=TIMEOUT,
    )
    if result.returncode:
      raise PageError(
        f'{fence}: status {result.returncode} of\n{script}\n'
        f'{result.stdout[-1000:]}\n{result.stderr[-3000:]}'
      )
    return result.stdout

  def call(self, module: str, *arguments: str) -> str | None:
    """Runs a module as a command; returns what is wrong, or None."""
    if self._commander is None:
      self._commander = Answerer('commander.py', self.folder)
      self._closing.callback(self._commander.close)
    return self._commander.ask([module, *arguments])

  def problem(self, command: str) -> str | None:
    """Returns what is wrong with a command, as far as can be known, or None."""
    words = shlex.split(command)
    while words and re.match(r'\w+=|srun$|-', words[0]):
      words.pop(0)  # Variables, and launchers for several machines.
    if not words:
      return 'There is no command.'
    name, *arguments = words
    match pathlib.Path(name).name:
      case 'python':
        if arguments[:1] != ['-m']:
          return 'Python without -m is not known here.'
        return self.call(*arguments[1:], '--only_check_args')
      case 'make':
        return self._problem_of_make(arguments)
      case 'pip':
        return _problem_of_pip(arguments)
    return None if name in OTHERS else f'{name!r} is not known here.'

  def _problem_of_make(self, arguments: list[str]) -> str | None:
    result = subprocess.run(
      ['make', '--dry-run', *arguments],
      cwd=self.folder,
      capture_output=True,
      text=True,
    )
    if result.returncode:
      return result.stderr
    for line in result.stdout.splitlines():
      is_ours = re.search(r'python -m (experiments|scripts)\b', line)
      if is_ours and (problem := self.problem(line)):
        return problem
    return None


def _run_snippet(session: Answerer, fence: Fence) -> str:
  question = {'page': fence.page, 'line': fence.line, 'code': fence.code}
  answer = session.ask(question)
  if answer['error']:
    raise PageError(f'{fence}: {answer["error"]}')
  return answer['printed']


def compare(fence: Fence, printed: str) -> None:
  """Raises PageError for other output; … on a page stands for any text."""
  parts = map(re.escape, fence.code.strip().split('…'))
  if not re.fullmatch('.*'.join(parts), printed.strip(), re.S):
    raise PageError(f'{fence}: what is printed is\n{printed}')


def _problem_of_pip(arguments: list[str]) -> str | None:
  if arguments[:1] != ['install']:
    return 'pip does not install.'
  for requirement in arguments[1:]:
    match = re.fullmatch(r'([\w.-]+?)(?:\[([\w,]+)\])?(?:==(.+))?', requirement)
    if requirement == '-e':
      continue
    if not match:
      return f'{requirement!r} is no requirement.'
    name, extras, version = match.groups()
    if name == '.':
      known = _extras()
    else:
      metadata = importlib.metadata.metadata(name)
      known = set(metadata.get_all('Provides-Extra'))
      if version and version != metadata['Version']:
        return f'{requirement!r} is not {metadata["Version"]}.'
    if extras and (unknown := set(extras.split(',')) - known):
      return f'{name} has no extra {unknown}; it has {sorted(known)}.'
  return None


def _extras() -> set[str]:
  """Returns the extras in setup.py; nothing needs to be installed."""
  setuptools = mock.MagicMock()
  with mock.patch.dict(sys.modules, setuptools=setuptools):
    runpy.run_path(str(ROOT / 'setup.py'))
  return set(setuptools.setup.call_args.kwargs['extras_require'])


def _bin() -> str:
  return os.path.dirname(sys.executable)
