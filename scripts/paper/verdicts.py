"""Verdicts on the paper's claims, by results in small."""

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


def judge_all(
  results: Mapping[str, Result], claims: Sequence[Claim] = CLAIMS
) -> list[Judgement]:
  """Judges claims together, because one of many tests errs easily."""
  of_seeds = _seed_variances(results)
  differences = [_differences(claim, results, of_seeds) for claim in claims]
  tests = [
    _tests(claim, [x for x in found if x is not None])
    for claim, found in zip(claims, differences, strict=True)
    if None not in found
  ]
  factors = iter(judge.holm([min(x.values()) for x in tests]))
  remaining = iter(tests)
  judgements = []
  for claim, found in zip(claims, differences, strict=True):
    if None in found:
      judgements.append(Judgement(claim, [], NOT_RUN, math.nan, math.nan))
      continue
    ps, factor = next(remaining), next(factors)
    shown = [x for x, p in ps.items() if factor * p <= judge.LEVEL]
    nearest = shown[0] if shown else min(ps, key=lambda x: ps[x])
    judgements.append(
      Judgement(
        claim,
        [x for x in found if x is not None],
        nearest if shown else UNKNOWN,
        ps[nearest],
        min(1.0, factor * ps[nearest]),
      )
    )
  return judgements


def _differences(
  claim: Claim,
  results: Mapping[str, Result],
  of_seeds: Mapping[str, judge.SeedVariance],
) -> list[Difference | None]:
  """Compares the results of each comparison; None if one was not run."""
  found: list[Difference | None] = []
  for comparison in claim.comparisons:
    pair = [results.get(title(x)) for x in comparison[::2]]
    if None in pair:
      found.append(None)
      continue
    first, second = (x.examples for x in pair if x is not None)
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
) -> dict[str, judge.SeedVariance]:
  """The variance between seeds that all results of each config share."""
  return {
    config: judge.seed_variance(
      x.examples.by_score
      for name, x in results.items()
      if _config(name) == config
    )
    for config in {_config(name) for name in results}
  }


def _config(name: str) -> str:
  """The config of 'config:variant'."""
  return name.partition(':')[0]


def _tests(claim: Claim, differences: Sequence[Difference]) -> dict[str, float]:
  """The p-value of each verdict; the first one that is shown counts.

  A claim holds if all of its comparisons do, so that the largest p-value
  counts; it fails if one of them does, so that the smallest counts, times their
  number. HOLDS and FAILS are two sides of one test. EQUAL is another, but no
  true difference is so small and so large that both could err.
  """
  any_of = lambda ps: min(1.0, len(differences) * min(ps))
  if claim.relation == 'equals':
    larger = [min(x.exceeds(MARGIN), x.is_below(-MARGIN)) for x in differences]
    return {
      HOLDS: max(x.is_within(MARGIN) for x in differences),
      FAILS: any_of(larger),
    }
  tests = {
    HOLDS: min(1.0, 2 * max(x.exceeds(0.0) for x in differences)),
    FAILS: min(1.0, 2 * any_of([x.is_below(0.0) for x in differences])),
  }
  if not claim.by_loss:  # Of which the margin says nothing.
    tests[EQUAL] = any_of([x.is_within(MARGIN) for x in differences])
  return tests


def summary(judgements: Sequence[Judgement]) -> str:
  """Says how many claims have which verdict."""
  count = lambda verdict: sum(x.verdict == verdict for x in judgements)
  parts = [
    (HOLDS, 'hold'),
    (FAILS, 'do not'),
    (EQUAL, 'compare what is equal within a point here'),
    (UNKNOWN, 'cannot be told'),
    (NOT_RUN, 'have not been run'),
  ]
  texts = [f'{count(x)} {text}' for x, text in parts if count(x)]
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
