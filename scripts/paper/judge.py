"""Judges differences between models that were tested on the same examples.

The score of a variant is a mean over seeds and over test examples, both of
which are drawn at random. So a difference of two scores has two variances:

* of the seeds, as a random effect: that of the scores of a variant's seeds over
  their number. Few seeds tell little about it, so a small one is drawn towards
  what is typical of the variants of a config, the more so the more alike they
  are, as in the moderated t-test (Smyth, 2004, doi:10.2202/1544-6115.1027). A
  large one is not: there are models whose seeds differ much.
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

import numpy as np
from scipy import optimize, special, stats

from scripts.paper.examples import Scores

LEVEL = 0.05  # Of all tests together, and of an interval.
# What makes no difference: a point of accuracy or mAP.
MARGIN = 0.01
LEAST = 1e-5  # A variance, as a part of their median.
MOST = 1e6  # Half of the degrees of freedom of a distribution that has a width.


@dataclasses.dataclass(frozen=True)
class SeedVariances:
  """How the variances between seeds are distributed among variants.

  It is taken for a scaled inverse chi-squared distribution.
  """

  typical: float  # Its scale.
  freedom: float  # Its degrees; inf: all variants have the same variance.
  total: int  # Degrees of all variants' seeds together.

  def moderated(self, own: float, freedom: float) -> tuple[float, float]:
    """Returns a variant's variance, from that of its seeds, and its degrees."""
    if math.isinf(self.freedom):
      return max(own, self.typical), self.total
    both = self.freedom + freedom
    value = (self.freedom * self.typical + freedom * own) / both
    return max(own, value), min(both, self.total)


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
  first: Scores, second: Scores, of_seeds: SeedVariances | None = None
) -> Difference:
  """Compares two scores.

  Args:
    first: of one variant.
    second: of another one, tested on the same examples.
    of_seeds: of the variants of their config; None: each has its own.

  Returns:
    The difference. Its error is NaN if nothing tells how seeds differ.
  """
  both = (first, second)
  means = [statistics.fmean(x.scores()) for x in both]
  value = means[0] - means[1]
  of_both, unsure = 0.0, 0.0
  for x in both:
    own, freedom = _variance(x.scores())
    if of_seeds is not None:
      own, freedom = of_seeds.moderated(own, freedom)
    if not freedom:
      return Difference(value, math.nan, math.nan)
    part = own / len(x.scores())
    of_both += part
    unsure += part**2 / freedom
  error = math.sqrt(of_both + first.variance(second))
  # Welch's. The part of the examples is known well, but does not count: where
  # seeds happen to agree, it would make their variance seem known, too.
  return Difference(value, error, of_both**2 / unsure if unsure else math.inf)


def seed_variances(scores: Iterable[Scores]) -> SeedVariances | None:
  """Fits the distribution, as Smyth does; None if no scores have two seeds."""
  own = np.array([_variance(x.scores()) for x in scores if len(x.scores()) > 1])
  if not len(own):
    return None
  variances, freedoms = own.T
  total = int(freedoms.sum())
  mean = float(freedoms @ variances / total)
  smallest = LEAST * np.median(variances)  # The logarithm needs one.
  if not smallest or len(own) == 1:
    return SeedVariances(mean, math.inf, total)
  # Without what the few seeds of each make of its logarithm.
  logs = np.log(np.maximum(variances, smallest)) - _mean_log(freedoms)
  spread = logs.var(ddof=1) - special.polygamma(1, freedoms / 2).mean()
  if spread <= special.polygamma(1, MOST):
    return SeedVariances(mean, math.inf, total)
  half = optimize.brentq(
    lambda x: special.polygamma(1, x) - spread, 1 / MOST, MOST
  )
  # The variances' own distribution is an inverse one.
  typical = float(np.exp(logs.mean() + _mean_log(2 * half)))
  return SeedVariances(typical, 2 * half, total)


def _variance(scores: Sequence[float]) -> tuple[float, float]:
  """The variance of the scores of seeds, and its degrees of freedom."""
  freedom = len(scores) - 1
  return (statistics.variance(scores) if freedom else 0.0), freedom


def _mean_log(freedom: np.ndarray | float) -> np.ndarray:
  """The mean logarithm of chi-squared over its degrees of freedom."""
  return special.digamma(freedom / 2) - np.log(freedom / 2)


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
