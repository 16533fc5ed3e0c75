"""Verdicts on the paper's claims, by scores in small.

A comparison is decided at two standard errors of the difference, as if the
scores were independent.
"""

from collections.abc import Mapping
import math

from scripts.paper.results import Result
from scripts.paper.rows import Claim, CLAIMS, Comparison, title
from scripts.shared import markdown

HOLDS = 'holds'
FAILS = 'does not hold'
UNKNOWN = 'cannot be told at this size'
NOT_RUN = 'not run'
DECIDES = 2.0  # Standard errors.


def verdict(claim: Claim, results: Mapping[str, Result]) -> str:
  """Returns whether a claim holds: all of its comparisons must."""
  verdicts = [compare(x, results) for x in claim.comparisons]
  for found in (NOT_RUN, FAILS, UNKNOWN):
    if found in verdicts:
      return found
  return HOLDS


def compare(comparison: Comparison, results: Mapping[str, Result]) -> str:
  """Returns whether a comparison holds.

  Scores count as equal if they differ by at most two standard errors. Large
  errors make that easy, so the table has them, too.
  """
  scores = _scores(comparison, results)
  if scores is None:
    return NOT_RUN
  first, second, error = scores
  if math.isnan(error):
    return UNKNOWN
  difference = first - second
  is_small = abs(difference) <= DECIDES * error
  if comparison[1] == 'equals':
    return HOLDS if is_small else FAILS
  if is_small:
    return UNKNOWN
  return HOLDS if difference > 0 else FAILS


def table(results: Mapping[str, Result]) -> str:
  """All claims in Markdown: the paper's figures, ours and the verdicts."""
  rows = [
    [
      *(claim.text, claim.where, claim.paper),
      '; '.join(filter(None, (_ours(x, results) for x in claim.comparisons))),
      verdict(claim, results),
    ]
    for claim in CLAIMS
  ]
  ours = 'ours, and the difference'
  return markdown.table(
    ["The paper's claim", 'where', 'its figures', ours, ''], rows
  )


def _scores(
  comparison: Comparison, results: Mapping[str, Result]
) -> tuple[float, float, float] | None:
  """Returns both scores and their difference's standard error, if they ran."""
  first, second = (results.get(title(x)) for x in comparison[::2])
  if first is None or second is None:
    return None
  error = math.hypot(first.standard_error, second.standard_error)
  return first.score, second.score, error


def _ours(comparison: Comparison, results: Mapping[str, Result]) -> str:
  scores = _scores(comparison, results)
  if scores is None:
    return ''
  first, second, error = scores
  signed = f'{100 * (first - second):+.2f}'.replace('-', '−')
  return (
    f'{100 * first:.2f} − {100 * second:.2f} = {signed} ± {100 * error:.2f}'
  )
