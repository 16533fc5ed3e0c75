"""Pictures of a sweep's scores, with two standard errors on each side."""

from collections.abc import Sequence
import io
import math
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scripts.paper import small
from scripts.paper.results import Result
from scripts.paper.rows import FIGURES, SMALL_TABLES
from scripts.paper.small import Results
from scripts.shared import plots

INK, GROUND = '#222222', '#ffffff'
BARS = 2.0  # Standard errors on each side.
ROW, PANEL = 0.34, (2.7, 2.6)  # Inches.


def all_of(results: Results) -> dict[str, bytes]:
  """By file name, those that are complete."""
  drawn = {}
  for number in SMALL_TABLES:
    if all(line.result for line in small.lines(number, results)):
      drawn[f'table{number}.svg'] = table(number, results)
  for name in FIGURES:
    some = small.points(name, results).values()
    if all(result for points in some for _, result in points):
      drawn[f'figure{name}.svg'] = figure(name, results)
  return drawn


def table(number: int, results: Results) -> bytes:
  """A table's scores as points, beside the paper's. An SVG file."""
  lines = [line for line in small.lines(number, results) if line.result]
  with matplotlib.rc_context(_style()):
    figure = Figure(figsize=(7.0, 1.1 + ROW * len(lines)))
    axis = figure.subplots()
    places = range(len(lines), 0, -1)
    _points(axis, [line.result for line in lines], places, vertical=False)
    papers = [
      (line.row.score, y) for line, y in zip(lines, places, strict=True)
    ]
    known = [(paper, y) for paper, y in papers if paper is not None]
    if known:
      axis.plot(
        *zip(*known, strict=True), 'D', color=plots.COLORS[1], label='paper'
      )
    axis.set_yticks(list(places), [line.name for line in lines])
    axis.set_ylim(0.4, len(lines) + 0.6)
    metric = small.quantity(number).removesuffix(' %')
    label = f'{metric} % (bars: two standard errors)'
    axis.set(xlabel=label, title=f'Table {number} in small')
    axis.grid(True, axis='x')
    axis.legend(loc='center left', bbox_to_anchor=(1.0, 0.5))
    return _svg(figure)


def figure(number: str, results: Results) -> bytes:
  """A figure's sweeps side by side, a panel each. An SVG file."""
  sweeps = small.points(number, results)
  with matplotlib.rc_context(_style()):
    width, height = PANEL
    drawing = Figure(figsize=(width * len(sweeps), height))
    axes = drawing.subplots(1, len(sweeps), sharey=True)
    for axis, (name, some) in zip(axes, sweeps.items(), strict=True):
      values = [x for x, result in some if result]
      _points(axis, [r for _, r in some if r], values, vertical=True)
      axis.set_xscale('log')
      axis.minorticks_off()
      axis.set_xticks(values, [f'{x:g}' for x in values])
      axis.set(xlabel=name)
      axis.grid(True, axis='y')
    axes[0].set(ylabel='top-1 %', title=f'Figure {number} in small')
    return _svg(drawing)


def _points(
  axis: Axes,
  results: Sequence[Result | None],
  places: Sequence[float] | range,
  vertical: bool,
) -> None:
  scores = [100 * r.score for r in results if r]
  errors = [_error(r) for r in results if r]
  x, y = (places, scores) if vertical else (scores, places)
  bars: dict[str, Any] = {'yerr' if vertical else 'xerr': errors}
  axis.errorbar(
    x, y, fmt='o', capsize=3, color=plots.COLORS[0], label='ours', **bars
  )


def _error(result: Result) -> float:
  error = 100 * BARS * result.standard_error
  return 0.0 if math.isnan(error) else error


def _style() -> dict[Any, Any]:
  colors = {k: INK for k, x in plots.STYLE.items() if x == plots.INK}
  return plots.STYLE | colors | {'savefig.facecolor': GROUND}


def _svg(drawing: Figure) -> bytes:
  stream = io.BytesIO()
  with matplotlib.rc_context(
    {'svg.hashsalt': 'perceiver', 'svg.fonttype': 'path'}
  ):
    drawing.savefig(
      stream, format='svg', metadata={'Date': None}, bbox_inches='tight'
    )
  return stream.getvalue()
