"""The fences of a Markdown page, and the comments that say how to test them.

Fences are in one of these languages:
- bash: commands, one per line; \\ at the end continues a line.
- python: a snippet; all snippets of a page share a namespace. With title="PATH"
  it is a file of that name instead.
- text: the output of the fence before it in the same section, if a test runs
  that as written; otherwise anything.

A comment may come right before a fence of commands:
- <!-- needs: WHAT -->: a test cannot run them because it has no WHAT (see
  `NEEDS`); it checks their flags.
- <!-- shortened: MODULE --FLAG=VALUE …; MODULE … -->: the test adds these flags
  to the module, which is given by the last part of its name. The output is
  compared only with a text that has … in it.

One comment may be in a page's first line:
- <!-- after: PAGE -->: its commands need the results of that page's commands.
"""

from collections.abc import Mapping
import dataclasses
import re

from tests.conftest import ROOT

LANGUAGES = ('bash', 'python', 'text')
# Patterns by need: each command of a fence with that need must match.
NEEDS = {
  'bucket': r'gs://',
  'compiler': r'scripts\.plan\b',  # 0.7 GB; tests/scripts/test_plan.py has it.
  'data': r'=/data\b|--manual_dir=/|runs/(imagenet|permuted|modelnet40)\b',
  'data set': r'configs/fashion_mnist\.py|fashion\b',  # Debian's package.
  'gpu': r'cuda|xla_gpu',
  'hours': r'scripts\.sweep\b',
  'installation': r'^(make|pip|source) ',
  'machines': r'--coordinator=',
  'minutes': r'(scripts\.benchmark|tests\.torture)\b',
  'slurm': r'^(srun|sbatch) ',
  'tpu': r'jax\[tpu\]|gs://',
  # The authors', from elsewhere.
  'weights': r'=(\S*vision-perceiver|imagenet_\w+\.pystate)',
}
_FENCE = re.compile(r'( *)(```+)(.*)')
_COMMENT = re.compile(r'<!-- (needs|shortened): (.+) -->')
_AFTER = re.compile(r'<!-- after: (.+) -->')


class PageError(ValueError):
  """A page is wrong; the message says where and how."""


@dataclasses.dataclass(frozen=True)
class Fence:
  """Code in a page."""

  page: str  # Its path in the checkout.
  line: int  # The line of the opening backticks, counted from 1.
  language: str
  title: str | None
  section: int  # The number of headings above.
  code: str
  needs: str | None = None
  shortened: Mapping[str, str] | None = None  # Flags by module.

  def __str__(self) -> str:
    return f'{self.page}:{self.line}'

  def script(self) -> str:
    """Returns the command or snippet that a test runs."""
    if not self.shortened:
      return self.code
    return '\n'.join(
      f'{x} {self.shortened.get(module(x), "")}' for x in commands(self.code)
    )


@dataclasses.dataclass(frozen=True)
class Page:
  """A page's fences, in order."""

  name: str
  after: str | None
  fences: tuple[Fence, ...]


def names() -> list[str]:
  """Returns the paths of all pages in the checkout."""
  docs = sorted(str(p.relative_to(ROOT)) for p in ROOT.glob('docs/**/*.md'))
  return ['README.md', *docs]


def read(name: str) -> Page:
  return parse(name, (ROOT / name).read_text())


def parse(name: str, text: str) -> Page:
  """Parses a page; raises PageError if it breaks this module's rules."""
  after, comment, opened, section = None, None, None, 0
  fences: list[Fence] = []
  for number, line in enumerate(text.splitlines(), 1):
    where = f'{name}:{number}'
    match = _FENCE.fullmatch(line)
    if opened is not None:
      if match and match[2] == opened[0] and not match[3]:
        fences.append(_fence(name, *opened[1:]))
        opened = None
      else:
        indent = opened[2]
        opened[-1].append(line.removeprefix(indent))
    elif comment is not None and not comment.endswith('-->'):
      comment = f'{comment} {line.strip()}'
    elif match:
      opened = match[2], number, match[1], match[3], section, comment, []
      comment = None
    elif comment is not None:
      raise PageError(f'{where}: no fence behind {comment}.')
    elif number == 1 and (found := re.fullmatch(_AFTER, line)):
      after = found[1]
    elif '<!--' in line:
      comment = line.strip()
    elif line.startswith('#'):
      section += 1
  if opened is not None or comment is not None:
    raise PageError(f'{name}: it ends within a fence, or before one.')
  return Page(name, after, tuple(fences))


def _fence(
  page: str,
  line: int,
  indent: str,
  info: str,
  section: int,
  comment: str | None,
  code: list[str],
) -> Fence:
  where = f'{page}:{line}'
  match = re.fullmatch(r'(\w*)(?: title="([\w./]+)")?', info)
  if not match or match[1] not in LANGUAGES:
    raise PageError(f'{where}: ```{info} is in none of {LANGUAGES}.')
  fence = Fence(page, line, match[1], match[2], section, '\n'.join(code) + '\n')
  if fence.title and fence.language != 'python':
    raise PageError(f'{where}: only Python has titles.')
  return fence if comment is None else _marked(fence, comment)


def _marked(fence: Fence, comment: str) -> Fence:
  found = re.fullmatch(_COMMENT, comment)
  if not found:
    raise PageError(f'{fence}: unknown comment {comment}.')
  if fence.language != 'bash':
    raise PageError(f'{fence}: {comment} is for commands.')
  if found[1] == 'shortened':
    parts = dict(x.partition(' ')[::2] for x in found[2].split('; '))
    if unknown := parts.keys() - set(map(module, commands(fence.code))):
      raise PageError(f'{fence}: there is no {unknown} to shorten.')
    return dataclasses.replace(fence, shortened=parts)
  if found[2] not in NEEDS:
    raise PageError(f'{fence}: {found[2]!r} is none of {sorted(NEEDS)}.')
  for command in commands(fence.code):
    if not re.search(NEEDS[found[2]], command):
      raise PageError(f'{fence}: a test needs no {found[2]} for: {command}')
  return dataclasses.replace(fence, needs=found[2])


def commands(code: str) -> list[str]:
  """Returns a script's commands, each as one line, without comments."""
  lines = (
    re.sub(r'(^|\s)#.*', '', line).strip()
    for line in code.replace('\\\n', ' ').split('\n')
  )
  return [re.sub(r' +', ' ', line) for line in lines if line]


def module(command: str) -> str:
  """Returns the last part of the name of the module that it runs, or ''."""
  found = re.search(r'\bpython -m (?:\w+\.)*(\w+)', command)
  return found[1] if found else ''
