"""Draws plots as inline SVG, whose text and axes take the page's text colour.

They are about as wide as a phone, so that text stays readable there. A page
puts several side by side where there is room.
"""

from collections.abc import Mapping, Sequence
import html
import io
import itertools
import re
from typing import Any

from markupsafe import Markup
import matplotlib
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler
import numpy as np

from experiments.history import History

WIDTH, HEIGHT = 4.6, 3.0  # Inches of 72 units.
MAX_POINTS = 400  # Per curve.
# Okabe and Ito's colours: colour-blind readers can tell them apart, and they
# suit light and dark pages.
COLORS = ('#0072b2', '#e69f00', '#009e73', '#cc79a7', '#d55e00', '#56b4e9')
INK = '#123456'  # Replaced by the page's text colour.
STYLE: Any = {
  'axes.edgecolor': INK,
  'axes.labelcolor': INK,
  'axes.prop_cycle': cycler(color=COLORS),
  'axes.spines.right': False,
  'axes.spines.top': False,
  'axes.titlesize': 12,
  'figure.facecolor': 'none',
  'axes.facecolor': 'none',
  'savefig.facecolor': 'none',
  'font.family': 'sans-serif',
  'font.size': 11,
  'grid.alpha': 0.25,
  'grid.color': INK,
  'legend.frameon': False,
  'xtick.labelsize': 10,
  'ytick.labelsize': 10,
  'lines.linewidth': 1.6,
  'svg.fonttype': 'none',
  'text.color': INK,
  'xtick.color': INK,
  'ytick.color': INK,
}
_numbers = itertools.count()


@matplotlib.rc_context(STYLE)
def curves(histories: Sequence[History], name: str) -> Markup:
  """Plots a metric by step, with a curve per run and split."""
  figure = Figure(figsize=(WIDTH, HEIGHT))
  axis = figure.subplots()
  last = {}
  for i, history in enumerate(histories):
    for split in ('train', *history.eval_splits):
      points = [
        (r['step'], r[name])
        for r in history.of_split(split)
        if isinstance(r.get(name), float | int)
      ]
      if not points:
        continue
      label = split if len(histories) == 1 else f'{history.name}, {split}'
      color = COLORS[i % len(COLORS)]
      style: dict[str, Any] = {'color': color, 'marker': '.'}
      if split == 'train':  # One noisy batch.
        style = {'color': color, 'alpha': 0.4, 'linewidth': 1.0}
      elif len(histories) == 1:
        style['color'] = COLORS[1 + history.eval_splits.index(split)]
      steps, values = zip(*_thinned(points), strict=True)
      axis.plot(steps, values, label=_plain(label), **style)
      last[label] = values[-1]
  axis.set(xlabel='step', title=_plain(name))
  axis.grid(True)
  if name == 'loss' and last and min(last.values()) > 0:
    axis.set_yscale('log')
  if last:
    axis.legend(fontsize=9)
  ends = ', '.join(f'{label} ends at {x:.4g}' for label, x in last.items())
  return _svg(figure, f'{name} by step: {ends or "nothing recorded yet"}.')


@matplotlib.rc_context(STYLE)
def throughput(histories: Sequence[History]) -> Markup:
  """Plots examples per second by step."""
  figure = Figure(figsize=(WIDTH, HEIGHT))
  axis = figure.subplots()
  medians = []
  for history in histories:
    points = history.throughput()
    if points:
      steps, rates = zip(*_thinned(points), strict=True)
      axis.plot(steps, rates, label=_plain(history.name))
      medians.append(f'{history.name} {np.median(rates):.4g}')
  axis.set(xlabel='step', title='examples/s', ylim=(0, None))
  axis.grid(True)
  if len(medians) > 1:
    axis.legend(fontsize=9)
  return _svg(
    figure,
    f'Examples a second by step; medians: {", ".join(medians) or "none"}.',
  )


@matplotlib.rc_context(STYLE)
def time_shares(shares: Mapping[str, float]) -> Markup:
  """Plots what the time since the first launch was spent on, as one bar."""
  total = sum(shares.values())
  figure = Figure(figsize=(WIDTH, 1.15))
  axis = figure.subplots()
  left = 0.0
  for i, (name, seconds) in enumerate(shares.items()):
    share = 100 * seconds / total
    label = f'{name} {share:.1f} %'
    axis.barh([0], [share], left=left, color=COLORS[i], label=label)
    left += share
  axis.set_axis_off()
  axis.set_xlim(0, 100)
  figure.legend(loc='lower center', ncols=2, fontsize=9)
  figure.subplots_adjust(0.02, 0.55, 0.98, 0.98)
  shown = ', '.join(
    f'{name} {100 * x / total:.1f} %' for name, x in shares.items()
  )
  return _svg(figure, f'Where the time went: {shown}.', tight=False)


@matplotlib.rc_context(STYLE)
def confusion(
  labels: np.ndarray, predicted: np.ndarray, names: Sequence[str]
) -> Markup:
  """Plots how often a true class (row) was predicted as each class (column)."""
  size = len(names)
  counts = np.zeros((size, size), int)
  np.add.at(counts, (labels, predicted), 1)
  rates = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
  side = WIDTH if size <= 20 else 1.4 * WIDTH
  figure = Figure(figsize=(side, side))
  axis = figure.subplots()
  axis.imshow(rates, cmap='Blues', vmin=0, vmax=1)
  if size <= 20:
    for row, column in zip(*np.nonzero(counts), strict=True):
      axis.text(
        column,
        row,
        str(counts[row, column]),
        ha='center',
        va='center',
        fontsize=8,
        color='white' if rates[row, column] > 0.5 else 'black',
      )
  shown = [_plain(name)[:18] for name in names]
  axis.set_xticks(range(size), shown, rotation=90)
  axis.set_yticks(range(size), shown)
  axis.tick_params(labelsize=8 if size <= 20 else 6, length=0)
  axis.set(xlabel='predicted', ylabel='true')
  axis.spines[:].set_visible(False)
  right = int(np.trace(counts))
  return _svg(
    figure,
    f'Confusion matrix of {size} classes: {right} of {counts.sum()} right.',
  )


@matplotlib.rc_context(STYLE)
def bars(names: Sequence[str], values: Sequence[float], title: str) -> Markup:
  """Plots values from 0 to 1 by name, as horizontal bars."""
  height = 0.7 + 0.22 * len(names)
  figure = Figure(figsize=(WIDTH, height))
  axis = figure.subplots()
  places = np.arange(len(names))[::-1]
  axis.barh(places, values, height=0.7)
  axis.set_yticks(places, [_plain(name)[:28] for name in names])
  for place, value in zip(places, values, strict=True):
    axis.text(value + 0.01, place, f'{value:.2f}', va='center', fontsize=8)
  axis.set(xlim=(0, 1.08), title=_plain(title))
  axis.tick_params(labelsize=8)
  pairs = zip(names, values, strict=True)
  shown = ', '.join(f'{name} {value:.2f}' for name, value in pairs)
  return _svg(figure, f'{title}: {shown}.')


def _plain(text: str) -> str:
  """Escapes what matplotlib reads as mathematics or as a hidden label."""
  return text.replace('$', r'\$').lstrip('_') or '–'


def _thinned(points: Sequence[tuple[int, float]]) -> Sequence[tuple]:
  """Returns at most MAX_POINTS points of a curve, and its last one."""
  if len(points) <= MAX_POINTS:
    return points
  step = len(points) / MAX_POINTS
  return [points[int(i * step)] for i in range(MAX_POINTS)] + [points[-1]]


def _svg(figure: Figure, description: str, tight: bool = True) -> Markup:
  """Returns the figure as an element of a page, with ids of its own."""
  if tight:
    figure.tight_layout()
  stream = io.StringIO()
  figure.savefig(stream, format='svg', metadata={'Date': None})
  text = stream.getvalue()
  text = text[text.index('<svg') :]
  text = re.sub(r'<metadata>.*?</metadata>', '', text, flags=re.DOTALL)
  text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r'\1', text, count=1)
  text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r'\1', text, count=1)
  prefix = f'p{next(_numbers)}-'
  text = re.sub(r'(\bid="|url\(#|href="#)', rf'\g<0>{prefix}', text)
  text = text.replace(INK, 'currentColor')
  label = html.escape(description, quote=True)
  return Markup(
    text.replace('<svg', f'<svg role="img" aria-label="{label}"', 1)
  )
