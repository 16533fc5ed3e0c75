"""Pictures of a sweep's claims, and of its scores with their errors."""

from collections.abc import Mapping, Sequence
import io
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
import numpy as np

from scripts.paper import judge, small, verdicts
from scripts.paper.results import Result
from scripts.paper.rows import FIGURES, SMALL_TABLES
from scripts.paper.small import Line, Panel, Results
from scripts.paper.verdicts import Judgement
from scripts.shared import plots

INK, GROUND = '#222222', '#ffffff'
BARS = 2.0  # Standard errors on each side.
TICKS = (-30, -10, -3, -2, -1, 0, 1, 2, 3, 10, 30)  # Points.
LINE, LEGEND = 0.24, 0.7  # Inches: of a claim, and down to the legend.
VERDICT_COLORS = {
  verdicts.HOLDS: plots.COLORS[2],
  verdicts.FAILS: plots.COLORS[4],
  verdicts.EQUAL: plots.COLORS[0],
  verdicts.UNKNOWN: '#888888',
}
ROW, PANEL = 0.34, (2.7, 2.6)  # Inches.


def all_of(results: Results) -> dict[str, bytes]:
  """Draws the claims, and all complete tables and figures; SVGs by name."""
  judgements = [
    x
    for x in verdicts.judge_all(results)
    if x.differences and not x.claim.by_loss  # That is in other units.
  ]
  drawn = {'claims.svg': _forest(judgements)} if judgements else {}
  for number in SMALL_TABLES:
    lines = small.lines(number, results)
    if all(line.result for line in lines):
      drawn[f'table{number}.svg'] = _table(number, lines)
  for name in FIGURES:
    panels = small.points(name, results)
    if all(result for panel in panels.values() for _, result in panel):
      drawn[f'figure{name}.svg'] = _figure(name, panels)
  return drawn


def _forest(judgements: Sequence[Judgement]) -> bytes:
  """Draws a line for each claim: a difference, and where it is with 95 %."""
  with matplotlib.rc_context(_style()):
    drawing = Figure(figsize=(6.0, 1.4 + LINE * len(judgements)))
    axis = drawing.subplots()
    margin = 100 * judge.MARGIN
    axis.axvspan(-margin, margin, color=INK, alpha=0.08, linewidth=0)
    axis.axvline(0, color=INK, linewidth=0.8)
    places = range(len(judgements), 0, -1)
    for verdict, color in VERDICT_COLORS.items():
      chosen = [
        (x.least, y)
        for x, y in zip(judgements, places, strict=True)
        if x.verdict == verdict
      ]
      if not chosen:
        continue
      intervals = 100 * np.array([x.interval() for x, _ in chosen]).T  # [2, N]
      values = 100 * np.array([x.value for x, _ in chosen])
      axis.errorbar(
        values,
        [y for _, y in chosen],
        xerr=np.abs(intervals - values),
        fmt='o',
        markersize=4,
        capsize=2,
        color=color,
        label=f'{verdict} ({len(chosen)})',
      )
    # Most differences are of a point, a few of forty.
    axis.set_xscale('symlog', linthresh=3.0, linscale=2.0)
    axis.set_xticks(
      TICKS, [f'{x:+d}'.replace('-', '−') if x else '0' for x in TICKS]
    )
    axis.minorticks_off()
    low, high = axis.get_xlim()
    axis.set_xlim(min(low, -margin), max(high, margin))
    axis.set_ylim(0.4, len(judgements) + 0.6)
    axis.set_yticks(list(places), [x.claim.text for x in judgements])
    for x, y in zip(judgements, places, strict=True):
      low, high = x.least.interval()
      text = f'[{verdicts.signed(low)}, {verdicts.signed(high)}]'
      axis.text(
        *(1.02, y, text),
        transform=axis.get_yaxis_transform(),
        verticalalignment='center',
        fontsize=9,
      )
    axis.set(
      xlabel=f'points of top-1 or mAP; shaded: less than {margin:g}',
      title='What the claims compare',
    )
    axis.grid(True, axis='x')
    below = -LEGEND / (LINE * len(judgements))  # In heights of the axes.
    axis.legend(loc='upper center', bbox_to_anchor=(0.3, below), ncols=2)
    return _svg(drawing)


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
