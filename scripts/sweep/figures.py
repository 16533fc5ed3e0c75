"""Pictures of a sweep's scores, with two standard errors on each side."""

from collections.abc import Mapping, Sequence
import io
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
import numpy as np

from scripts.paper import small
from scripts.paper.results import Result
from scripts.paper.rows import FIGURES, SMALL_TABLES
from scripts.paper.small import Line, Panel, Results
from scripts.shared import plots

INK, GROUND = '#222222', '#ffffff'
BARS = 2.0  # Standard errors on each side.
ROW, PANEL = 0.34, (2.7, 2.6)  # Inches.


def all_of(results: Results) -> dict[str, bytes]:
  """Draws all complete tables and figures; SVG files by name."""
  drawn = {}
  for number in SMALL_TABLES:
    lines = small.lines(number, results)
    if all(line.result for line in lines):
      drawn[f'table{number}.svg'] = _table(number, lines)
  for name in FIGURES:
    panels = small.points(name, results)
    if all(result for panel in panels.values() for _, result in panel):
      drawn[f'figure{name}.svg'] = _figure(name, panels)
  return drawn


def _table(number: int, lines: Sequence[Line]) -> bytes:
  """Draws a table's scores as points, beside the paper's."""
  with matplotlib.rc_context(_style()):
    drawing = Figure(figsize=(7.0, 1.1 + ROW * len(lines)))
    axis = drawing.subplots()
    places = range(len(lines), 0, -1)
    _points(axis, [line.result for line in lines], places, vertical=False)
    papers = [
      (line.row.score, place)
      for line, place in zip(lines, places, strict=True)
      if line.row.score is not None
    ]
    axis.plot(
      *zip(*papers, strict=True), 'D', color=plots.COLORS[1], label='paper'
    )
    axis.set_yticks(list(places), [line.name for line in lines])
    axis.set_ylim(0.4, len(lines) + 0.6)
    metric = small.quantity(number).removesuffix(' %')
    label = f'{metric} % (bars: two standard errors)'
    axis.set(xlabel=label, title=f'Table {number} in small')
    axis.grid(True, axis='x')
    axis.legend(loc='center left', bbox_to_anchor=(1.0, 0.5))
    return _svg(drawing)


def _figure(number: str, panels: Mapping[str, Panel]) -> bytes:
  """Draws the panels of a figure side by side."""
  with matplotlib.rc_context(_style()):
    width, height = PANEL
    drawing = Figure(figsize=(width * len(panels), height))
    axes = drawing.subplots(1, len(panels), sharey=True)
    for axis, (name, panel) in zip(axes, panels.items(), strict=True):
      values = [x for x, _ in panel]
      _points(axis, [result for _, result in panel], values, vertical=True)
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
  errors = [np.nan_to_num(100 * BARS * r.standard_error) for r in results if r]
  x, y = (places, scores) if vertical else (scores, places)
  bars: dict[str, Any] = {'yerr' if vertical else 'xerr': errors}
  axis.errorbar(
    x, y, fmt='o', capsize=3, color=plots.COLORS[0], label='ours', **bars
  )


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
