"""Verdicts on the paper's claims, by results in small."""

import collections
from collections.abc import Callable, Mapping, Sequence
import dataclasses
import math

from scripts.paper import judge
from scripts.paper.claims import Claim, CLAIMS
from scripts.paper.judge import Difference, MARGIN
from scripts.paper.results import Result
from scripts.paper.rows import title
from scripts.shared import markdown

HOLDS = 'holds'
FAILS = 'does not hold'
EQUAL = 'equal within a point'  # Where the paper says that one is better.
UNKNOWN = 'cannot be told'
NOT_RUN = 'not run'


@dataclasses.dataclass(frozen=True)
class Judgement:
  """A claim and the verdict on it."""

  claim: Claim
  differences: list[Difference]  # Of its comparisons; none: not run.
  verdict: str
  p: float  # Of the verdict, or of the one that comes nearest.
  adjusted: float  # The same, corrected for the number of claims.

  @property
  def least(self) -> Difference:
    """The difference that speaks least for the claim."""
    if self.claim.relation == 'equals':
      return max(self.differences, key=lambda x: abs(x.value))
    return min(self.differences, key=lambda x: x.value)


@dataclasses.dataclass(frozen=True)
class Tests:
  """The p-values of the verdicts on a claim; the first one shown counts.

  They are of two families, each of which errs with a probability of
  judge.LEVEL. Were they one, what is shown to be equal would leave the others
  less to correct for, though it can still be taken for different.
  """

  of_difference: dict[str, float]
  of_equality: dict[str, float]


def judge_all(
  results: Mapping[str, Result], claims: Sequence[Claim] = CLAIMS
) -> list[Judgement]:
  """Judges claims together, because one of many tests errs easily."""
  of_seeds = _seed_variances(results)
  differences = [_differences(claim, results, of_seeds) for claim in claims]
  tests = [
    _tests(claim, found) if found else Tests({}, {})
    for claim, found in zip(claims, differences, strict=True)
  ]
  of_difference = _corrected([x.of_difference for x in tests])
  of_equality = _corrected([x.of_equality for x in tests])
  judgements = []
  for i, claim in enumerate(claims):
    ps = tests[i].of_difference | tests[i].of_equality
    adjusted = of_difference[i] | of_equality[i]
    if not ps:
      judgements.append(Judgement(claim, [], NOT_RUN, math.nan, math.nan))
      continue
    shown = [x for x, p in adjusted.items() if p <= judge.LEVEL]
    # Corrected ones may all be 1.
    nearest = min(shown[:1] or ps, key=lambda x: (adjusted[x], ps[x]))
    judgements.append(
      Judgement(
        claim,
        differences[i],
        nearest if shown else UNKNOWN,
        ps[nearest],
        adjusted[nearest],
      )
    )
  return judgements


def _differences(
  claim: Claim,
  results: Mapping[str, Result],
  of_seeds: Mapping[str, judge.SeedVariances | None],
) -> list[Difference]:
  """Compares the results of each comparison; [] if one was not run."""
  found: list[Difference] = []
  for comparison in claim.comparisons:
    pair = [title(x) for x in comparison[::2]]
    if not results.keys() >= set(pair):
      return []
    first, second = (results[x].examples for x in pair)
    if first.loss.shape[1] != second.loss.shape[1]:
      raise ValueError(
        f'{comparison[0]} and {comparison[2]} cannot be compared: they were'
        f' tested on {first.loss.shape[1]} and {second.loss.shape[1]} examples.'
      )
    if claim.by_loss:
      found.append(judge.difference(first.by_loss, second.by_loss))
    else:
      shared = of_seeds[_config(title(comparison[0]))]
      found.append(judge.difference(first.by_score, second.by_score, shared))
  return found


def _seed_variances(
  results: Mapping[str, Result],
) -> dict[str, judge.SeedVariances | None]:
  """How the variances between seeds are distributed in each config."""
  return {
    config: judge.seed_variances(
      x.examples.by_score
      for name, x in results.items()
      if _config(name) == config
    )
    for config in {_config(name) for name in results}
  }


def _config(name: str) -> str:
  """The config of 'config:variant'."""
  return name.partition(':')[0]


def _tests(claim: Claim, differences: Sequence[Difference]) -> Tests:
  """Tests the verdicts on a claim.

  A claim holds if all of its comparisons do, so that the largest p-value
  counts; it fails if one of them does, so that the smallest counts, times their
  number. HOLDS and FAILS are two sides of one test where one score should
  exceed another.
  """
  any_of = lambda ps: min(1.0, len(differences) * min(ps))
  within = [x.is_within(MARGIN) for x in differences]
  if claim.relation == 'equals':
    beyond = [min(x.exceeds(MARGIN), x.is_below(-MARGIN)) for x in differences]
    return Tests({FAILS: any_of(beyond)}, {HOLDS: max(within)})
  above = max(x.exceeds(0.0) for x in differences)
  below = any_of([x.is_below(0.0) for x in differences])
  return Tests(
    {HOLDS: min(1.0, 2 * above), FAILS: min(1.0, 2 * below)},
    # The margin says nothing of a loss.
    {} if claim.by_loss else {EQUAL: any_of(within)},
  )


def _corrected(family: Sequence[dict[str, float]]) -> list[dict[str, float]]:
  """Corrects a family's p-values, of each claim, for the number of claims."""
  factors = iter(judge.holm([min(x.values()) for x in family if x]))
  corrected = []
  for ps in family:
    factor = next(factors) if ps else math.nan
    corrected.append({x: min(1.0, factor * p) for x, p in ps.items()})
  return corrected


def summary(judgements: Sequence[Judgement]) -> str:
  """Says how many claims have which verdict."""
  counts = collections.Counter(x.verdict for x in judgements)
  parts = {
    HOLDS: ('holds', 'hold'),
    FAILS: ('does not', 'do not'),
    EQUAL: (f'compares what is {EQUAL} here', f'compare what is {EQUAL} here'),
    UNKNOWN: (UNKNOWN, UNKNOWN),
    NOT_RUN: ('has not been run', 'have not been run'),
  }
  texts = [
    f'{counts[x]} {one if counts[x] == 1 else more}'
    for x, (one, more) in parts.items()
    if counts[x]
  ]
  return f'Of {len(judgements)} claims {", ".join(texts)}.'


def table(
  judgements: Sequence[Judgement], results: Mapping[str, Result]
) -> str:
  """All claims in Markdown: the paper's figures, ours and the verdicts."""
  rows = []
  for x in judgements:
    pairs = [
      (results[title(first)], results[title(second)])
      for first, _, second in x.claim.comparisons
      if x.differences
    ]
    scores = [
      f'loss: {_losses(*pair)}'
      if x.claim.by_loss
      else _scores(*pair, difference)
      for pair, difference in zip(pairs, x.differences, strict=True)
    ]
    rows.append(
      [
        x.claim.text,
        f'{x.claim.where}: {x.claim.paper}',
        '; '.join(scores),
        '' if x.claim.by_loss else '; '.join(_losses(*pair) for pair in pairs),
        *(_probability(x.p), _probability(x.adjusted), x.verdict),
      ]
    )
  header = [
    *('Claim', 'in the paper', 'here, in points', 'the losses'),
    *('p', 'Holm', ''),
  ]
  return markdown.table(header, rows)


def _scores(first: Result, second: Result, found: Difference) -> str:
  """'80.12 − 80.00 = +0.12 [−0.10, +0.34]'."""
  scores = f'{100 * first.score:.2f} − {100 * second.score:.2f}'
  return f'{scores} = {signed(found.value)}{_interval(found, signed)}'


def _losses(first: Result, second: Result) -> str:
  """'−0.120 [−0.140, −0.100]'; less is better."""
  found = judge.difference(first.examples.by_loss, second.examples.by_loss)
  found = dataclasses.replace(found, value=-found.value)
  write = lambda x: f'{x:+.3f}'.replace('-', '−')
  return f'{write(found.value)}{_interval(found, write)}'


def _interval(found: Difference, write: Callable[[float], str]) -> str:
  if math.isnan(found.error):
    return ''
  return f' [{", ".join(map(write, found.interval()))}]'


def signed(fraction: float) -> str:
  """A difference in points, as '−0.12'."""
  return f'{100 * fraction:+.2f}'.replace('-', '−')


def _probability(p: float) -> str:
  if math.isnan(p):
    return ''
  return '< 0.001' if p < 0.001 else f'{p:.3f}'
