"""The contents of a report on one run: the variables of its template."""

from collections.abc import Callable, Sequence
import dataclasses
from typing import Any

import numpy as np

from experiments import history as histories
from experiments import saved
from experiments.history import History
from scripts.report import comparison, pictures
from scripts.shared import plots

MAX_MATRIX = 60  # The most classes of a readable confusion matrix.
TOO_LARGE = 'Left out, to keep the page small.'
SHOWN = 12  # The most classes, or pairs of classes, in a list.
# Raised if data or a checkpoint is missing or damaged, or the config is of
# another version. Any other error is a fault of the code.
_ERRORS = (OSError, ValueError)
NO_PREDICTIONS = 'No evaluation has left its predictions yet.'


@dataclasses.dataclass(frozen=True)
class Part:
  """A part of the page, or the reason why it is missing."""

  value: Any = ()
  error: str = ''


def _part(make: Callable[[], Any]) -> Part:
  """Makes a part; an error of _ERRORS becomes the reason why it is missing."""
  try:
    return Part(make())
  except _ERRORS as error:
    return Part(error=str(error) or type(error).__name__)


def of_run(
  history: History,
  number: int,
  data_dir: str | None,
  num_maps: int,
  num_mistakes: int,
) -> dict[str, Any]:
  """Returns the contents of the report on one run."""
  opened = _part(lambda: saved.open_run(history.workdir, data_dir))
  names: Sequence[str] = ()  # Unknown.
  if not opened.error:
    names = saved.class_names(opened.value, history.workdir)
  shares = history.time_shares()
  rates = [rate for _, rate in history.throughput()]
  paper = comparison.paper(history)
  base, differences = comparison.differences(history)
  total = sum(shares.values())
  final = history.final()
  return {
    'id': f'run-{number}',
    'name': history.name,
    'status': history.status(),
    'base': base,
    'differences': differences,
    'step': f'{history.last_step} of {history.total_steps or "?"}',
    'headline': _headline(final),
    'paper_short': ', '.join(f'{x:g}' for _, _, x, _ in paper),
    'rate': f'{np.median(rates):.4g}' if rates else '',
    'time': histories.duration(total) if total else '',
    'cards': _cards(history, final, paper, rates, shares),
    'problems': history.problems,
    'no_evaluation': '' if final else 'There is no evaluation yet.',
    'curves': [
      plots.curves([history], name)
      for name in histories.metric_names([history])
    ],
    'throughput': plots.throughput([history]) if rates else '',
    'time_shares': plots.time_shares(shares) if total else '',
    'classes': _classes(history, names),
    'mistakes': _mistakes(history, opened, names, num_mistakes),
    'mistakes_step': _step(history),
    'maps': _maps(history, opened, names, num_maps),
    'launches': _launches(history),
    'skipped': sorted(history.skipped.items()),
    'skipped_steps': sorted(history.skipped_steps.items()),
  }


def make_lighter(runs: Sequence[dict[str, Any]]) -> bool:
  """Removes some pictures of the runs; returns False if none are left."""
  for name, keep in ('maps', lambda n: n - 1), ('mistakes', lambda n: n // 2):
    most = max(len(run[name].value) for run in runs)
    for run in runs:
      if most and len(run[name].value) == most:
        kept = run[name].value[: keep(most)]
        run[name] = Part(kept, '' if kept else TOO_LARGE)
    if most:
      return True
  return False


def _percent(name: str, value: float) -> str:
  return f'{value:.4f}' if name == 'loss' else f'{100 * value:.2f} %'


def _scores(record: dict[str, Any]) -> list[tuple[str, float]]:
  """Returns the metrics of an evaluation, the loss last."""
  items = histories.measured(record).items()
  return sorted(items, key=lambda item: item[0] == 'loss')


def _headline(final: dict[str, dict[str, Any]]) -> str:
  return ', '.join(
    f'{split} {name} {_percent(name, value)}'
    for split, record in final.items()
    for name, value in _scores(record)
    if name != 'loss'
  )


def _cards(history, final, paper, rates, shares) -> list[tuple[str, str, str]]:
  """Returns (name, value, note) for each figure at the top."""
  cards = []
  for split, record in final.items():
    note = f'step {record["step"]}, {record.get("count", "?")} examples'
    for name, value in _scores(record):
      cards.append((f'{split} {name}', _percent(name, value), note))
  for title, quantity, figure, ours in paper:
    note = title
    if ours is not None:
      note += f'; ours {ours:.1f}, {ours - figure:+.1f}'
    cards.append((f"paper's {quantity}", f'{figure:g} %', note))
  of = f'of {history.total_steps:,}' if history.total_steps else ''
  cards.append(('steps', f'{history.last_step:,}', of))
  if rates:
    note = f'median, batch {history.config["train"].get("batch_size")}'
    cards.append(('examples/s', f'{np.median(rates):.4g}', note))
  total = sum(shares.values())
  if total:
    lost = shares[histories.LOST]
    stops = len(history.launches) - 1
    note = f'{stops} resume{"s" if stops != 1 else ""}'
    cards.append(('time', histories.duration(total), note))
    share = f'{100 * lost / total:.1f} %'
    cards.append(('lost', share, histories.duration(lost)))
  return cards


def _classes(history: History, names: Sequence[str]) -> dict[str, Any]:
  """Returns a confusion matrix, or average precisions."""
  found: dict[str, Any] = {'error': '', 'plots': [], 'confused': []}
  found['precisions'] = history.average_precision
  if history.average_precision:
    found['plots'] = _precision_plots(history.average_precision)
    return found
  labelled = [p for p in history.predictions.values() if 'label' in p]
  if not labelled:
    found['error'] = NO_PREDICTIONS
    return found
  labels, taken = labelled[-1]['label'], labelled[-1]['classes'][:, 0]
  names = names or [str(i) for i in range(max(labels.max(), taken.max()) + 1)]
  if len(names) <= MAX_MATRIX:
    found['plots'] = [plots.confusion(labels, taken, names)]
  wrong = labels != taken
  pairs, times = np.unique(
    np.stack([labels[wrong], taken[wrong]]), axis=1, return_counts=True
  )
  for i in np.argsort(-times, kind='stable')[:SHOWN]:
    true, other = pairs[:, i]
    found['confused'].append((names[true], names[other], int(times[i])))
  return found


def _precision_plots(rows: list[dict[str, str]]) -> list[Any]:
  known = [r for r in rows if r['average_precision']]
  known.sort(key=lambda r: -float(r['average_precision']))

  def draw(some: list[dict[str, str]], title: str) -> Any:
    values = [float(r['average_precision']) for r in some]
    return plots.bars([r['name'] for r in some], values, title)

  if len(known) <= 2 * SHOWN:
    return [draw(known, 'average precision')]
  return [
    draw(known[:SHOWN], 'best average precisions'),
    draw(known[-SHOWN:], 'worst average precisions'),
  ]


def _mistakes(
  history: History, opened: Part, names: Sequence[str], count: int
) -> Part:
  if not history.predictions:
    return Part(error=NO_PREDICTIONS)
  if opened.error:
    return Part(error=opened.error)
  if opened.value.task.eval_splits[0] not in history.predictions:
    return Part(error=NO_PREDICTIONS)
  return _part(lambda: pictures.mistakes(opened.value, history, names, count))


def _step(history: History) -> int:
  """Returns the step of the evaluation that left the predictions."""
  return max((int(p['step']) for p in history.predictions.values()), default=0)


def _maps(
  history: History, opened: Part, names: Sequence[str], count: int
) -> Part:
  if opened.error:
    return Part(error=opened.error)
  if not count:
    return Part()
  return _part(
    lambda: pictures.maps(opened.value, history.workdir, names, count)
  )


def _launches(history: History) -> list[dict[str, Any]]:
  """Returns the launches, each with how it ended."""
  rows = []
  reasons = history.reasons()
  for i, launch in enumerate(history.launches):
    is_last = i == len(history.launches) - 1
    silence = 'still running, or killed' if is_last else 'killed'
    devices = launch.get('devices', [])
    kinds = {kind: devices.count(kind) for kind in devices}
    rows.append(
      {
        'when': histories.readable(launch['time']),
        'start_step': launch.get('start_step'),
        'commit': str(launch.get('commit', ''))[:10],
        'devices': ', '.join(f'{n} × {kind}' for kind, n in kinds.items()),
        'processes': launch.get('processes'),
        'jax': launch.get('packages', {}).get('jax'),
        'ended': reasons[i] or silence,
      }
    )
  return rows
