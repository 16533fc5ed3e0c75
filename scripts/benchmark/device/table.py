"""Results as the tables of RESULTS.md."""

from collections.abc import Mapping, Sequence
import json
from pathlib import Path
from typing import Any

from scripts.shared import markdown

Line = Mapping[str, Any]


def read(path: Path) -> list[Line]:
  """Returns the results of the last launch; an unfinished line is left out."""
  lines: list[Line] = []
  for text in path.read_text().splitlines():
    try:
      line = json.loads(text)
    except json.JSONDecodeError:
      continue
    if 'command' in line:
      lines = []
    lines.append(line)
  return lines


def as_markdown(lines: Sequence[Line]) -> str:
  """Returns the tables of all results, and a list of what failed."""
  sections = [
    '\n'.join(f'* {key}: {x}' for key, x in _facts(lines).items()),
    _agreement([x for x in lines if 'errors' in x]),
    _steps([x for x in lines if 'examples_per_s' in x]),
    _kernels([x for x in lines if 'kernel' in x]),
    '\n'.join(
      f'* {_title(x)}: {x.get("failed") or x["cannot_run"]}'
      for x in lines
      if 'failed' in x or 'cannot_run' in x
    ),
  ]
  return '\n\n'.join(filter(None, sections))


def _facts(lines: Sequence[Line]) -> dict[str, Any]:
  """Returns single facts: where it was measured, ceilings."""
  facts: dict[str, Any] = {}
  for line in lines:
    names = 'command', 'commit', 'time', 'device', 'platform', 'runtime'
    facts |= {x: line[x] for x in names if x in line}
    facts |= line.get('packages', {})
    if 'tb_per_s' in line:
      facts['copy'] = f'{line["tb_per_s"]:.3g} TB/s'
    if line.get('ceiling') == 'product':
      facts['bfloat16 product'] = f'{line["tflops"]:.3g} TFLOP/s'
  return facts


def _agreement(lines: Sequence[Line]) -> str:
  if not lines:
    return ''
  header = 'check', 'form', 'logits', 'gradients'
  rows = []
  for x in lines:
    case = x['case']
    name = ' x '.join(map(str, case['grid'])) + f', {case["dtype"]}'
    name += ', masked' if case['is_masked'] else ''
    errors = (f'{x["errors"][key]:.1e}' for key in ('logits', 'gradients'))
    rows.append((name, _changes(x['form']), *errors))
  return markdown.table(header, rows, 'llrr')


def _steps(lines: Sequence[Line]) -> str:
  if not lines:
    return ''
  header = 'what', 'ms', 'examples/s', 'TFLOP/s', 'compiled in s', 'peak GB'
  rows = [
    (
      _title(x),
      f'{1e3 * x["median_s"]:.2f}',
      f'{x["examples_per_s"]:.1f}',
      f'{x["tflops"]:.3g}',
      f'{x["compile_s"]:.0f}',
      f'{x["peak_gb"]:.2f}',
    )
    for x in lines
  ]
  return markdown.table(header, rows, 'lrrrrr')


def _kernels(lines: Sequence[Line]) -> str:
  if not lines:
    return ''
  header = 'kernel', 'ms a step', 'share'
  rows = [
    (x['kernel'], f'{x["ms_a_step"]:.3f}', f'{100 * x["share"]:.1f} %')
    for x in lines
  ]
  return markdown.table(header, rows, 'lrr')


def _title(line: Line) -> str:
  """Names a part: what, the config, its mode, batch and changes."""
  words = [
    line['part'],
    *(str(line[x]) for x in ('config', 'mode') if x in line),
  ]
  if 'batch_size' in line:
    words.append(f'batch {line["batch_size"]}')
  changes = line.get('changes') or line.get('form')
  return ' '.join(words) + (f': {_changes(changes)}' if changes else '')


def _changes(changes: Mapping[str, Any]) -> str:
  names = (f'{key.removeprefix("model.")}={x}' for key, x in changes.items())
  return ', '.join(names) or 'plain'
