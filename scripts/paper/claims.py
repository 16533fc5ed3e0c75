"""Verdicts on the paper's claims, by scores in small.

A comparison is decided at two standard errors of the difference, which are
those of independent scores.
"""

from collections.abc import Mapping
import math

from scripts.paper.results import Result
from scripts.paper.rows import Claim, CLAIMS, Comparison, title
from scripts.shared import markdown

HOLDS, FAILS, UNKNOWN, NOT_RUN = (
  'holds',
  'does not hold',
  'cannot be told at this size',
  'not run',
)
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

  Scores are equal as long as they do not differ by two standard errors; that
  cannot show more than the errors allow, which is why they are printed.
  """
  first, relation, second = _results(comparison, results)
  if first is None or second is None:
    return NOT_RUN
  difference, error = _difference(first, second)
  if math.isnan(error):
    return UNKNOWN
  is_small = abs(difference) <= DECIDES * error
  if relation == 'equals':
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


def _results(
  comparison: Comparison, results: Mapping[str, Result]
) -> tuple[Result | None, str, Result | None]:
  first, relation, second = comparison
  return results.get(title(first)), relation, results.get(title(second))


def _difference(first: Result, second: Result) -> tuple[float, float]:
  """Returns the difference of two scores, and its standard error."""
  error = math.hypot(first.standard_error, second.standard_error)
  return first.score - second.score, error


def _ours(comparison: Comparison, results: Mapping[str, Result]) -> str:
  first, _, second = _results(comparison, results)
  if first is None or second is None:
    return ''
  difference, error = _difference(first, second)
  signed = f'{100 * difference:+.2f}'.replace('-', '−')
  return (
    f'{100 * first.score:.2f} − {100 * second.score:.2f}'
    f' = {signed} ± {100 * error:.2f}'
  )
