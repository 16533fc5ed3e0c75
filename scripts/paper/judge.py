"""Judges differences between models that were tested on the same examples.

The score of a variant is a mean over seeds and over test examples, both of
which are drawn at random. So a difference of two scores has two variances:

* of the seeds, as a random effect: that of the scores of a variant's seeds over
  their number. Three seeds tell little about it, so all variants of a config
  share one, but where the two that are compared differ by more, or have seeds
  enough, theirs is taken.
* of the examples: that of the differences example by example (of the seeds'
  means) over their number, without the part that the seeds have counted. For
  one seed that is McNemar's. For mAP, which is no mean, it is a bootstrap's:
  examples are drawn again, the same ones for both.

Tests are one-sided. `holm` corrects for their number.
"""

from collections.abc import Iterable, Sequence
import dataclasses
import math
import statistics

from scipy import stats

from scripts.paper.examples import Scores

LEVEL = 0.05  # Of all tests together, and of an interval.
# What makes no difference: a point of accuracy or mAP.
MARGIN = 0.01
ENOUGH = 8  # Degrees of freedom: five seeds of both.


@dataclasses.dataclass(frozen=True)
class SeedVariance:
  """The variance between the scores of seeds, on the same examples."""

  value: float
  freedom: int  # Degrees; 0: no variant has several seeds.


@dataclasses.dataclass(frozen=True)
class Difference:
  """A score less another, and how sure it is."""

  value: float
  error: float  # Standard error.
  freedom: float  # Degrees, of the error.

  def interval(self) -> tuple[float, float]:
    """Where the difference is with 95 % confidence."""
    half = self.error * stats.t.ppf(1 - LEVEL / 2, self.freedom)
    return self.value - half, self.value + half

  def exceeds(self, bound: float) -> float:
    """The p-value of the test that shows a difference of more than that."""
    return self._tail(self.value - bound)

  def is_below(self, bound: float) -> float:
    """The p-value of the test that shows a difference of less than that."""
    return self._tail(bound - self.value)

  def is_within(self, margin: float) -> float:
    """The p-value of equivalence, as two one-sided tests show it."""
    return max(self.exceeds(-margin), self.is_below(margin))

  def _tail(self, excess: float) -> float:
    """The probability of so large an excess, or a larger one, by chance."""
    if math.isnan(self.error):
      return 1.0  # It can be anything.
    if self.error == 0:
      return float(excess <= 0)
    return float(stats.t.sf(excess / self.error, self.freedom))


def difference(
  first: Scores, second: Scores, of_seeds: SeedVariance | None = None
) -> Difference:
  """Compares two scores.

  Args:
    first: of one variant.
    second: of another one, tested on the same examples.
    of_seeds: what the variants of their config share; None: nothing.

  Returns:
    The difference. Its error is NaN if there is one seed alone.
  """
  both = (first, second)
  means = [statistics.fmean(x.scores()) for x in both]
  own = [seed_variance([x]) for x in both]
  pair = seed_variance(both)
  if of_seeds is not None and pair.freedom < ENOUGH:
    value = max(of_seeds.value, pair.value)
    own = [SeedVariance(value, of_seeds.freedom)] * 2
  if not all(x.freedom for x in own):
    return Difference(means[0] - means[1], math.nan, math.nan)
  parts = [x.value / len(y.scores()) for x, y in zip(own, both, strict=True)]
  variance = first.variance(second) + sum(parts)
  # Welch's and Satterthwaite's; that of thousands of examples is known well.
  unsure = sum(part**2 / x.freedom for part, x in zip(parts, own, strict=True))
  freedom = variance**2 / unsure if unsure else math.inf
  return Difference(means[0] - means[1], math.sqrt(variance), freedom)


def seed_variance(scores: Iterable[Scores]) -> SeedVariance:
  """Returns the variance between seeds that scores share."""
  total, freedom = 0.0, 0
  for x in scores:
    of_seeds = x.scores()
    if len(of_seeds) > 1:
      total += (len(of_seeds) - 1) * statistics.variance(of_seeds)
      freedom += len(of_seeds) - 1
  return SeedVariance(total / freedom if freedom else 0.0, freedom)


def holm(p_values: Sequence[float]) -> list[float]:
  """Returns by how much to multiply each p-value, for all tests together.

  Then the probability that one errs or more is at most that of one test.
  """
  count = len(p_values)
  factors = [1.0] * count
  largest = 0.0  # Of the corrected ones; none counts for more than a later one.
  for rank, i in enumerate(sorted(range(count), key=lambda i: p_values[i])):
    largest = max(largest, (count - rank) * p_values[i])
    factors[i] = largest / p_values[i] if p_values[i] else count - rank
  return factors
