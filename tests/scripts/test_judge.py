"""The judge errs as rarely as it says, and tells a point at our sizes."""

import dataclasses
import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from scripts.paper import examples, judge, verdicts
from scripts.paper.claims import CLAIMS
from scripts.paper.judge import Difference, SeedVariances
from scripts.paper.rows import title
from tests.scripts import simulated_sweeps
from tests.scripts.simulated_sweeps import result

# Seeds differ by their examples alone.
KNOWN = SeedVariances(typical=0.0, freedom=math.inf, total=40)


def scores(*results):
  return [x.examples.by_score for x in results]


def of_counts(both, first, second, neither):
  """Two results of one seed: how many examples are right for which of them."""
  counts = (both, first, second, neither)
  return (
    result(np.repeat([[True, True, False, False]], counts, axis=1)),
    result(np.repeat([[True, False, True, False]], counts, axis=1)),
  )


def test_the_variance_is_mcnemars_for_one_seed():
  a, b = of_counts(700, 80, 40, 180)
  found = judge.difference(*scores(a, b), KNOWN)
  assert found.value == pytest.approx(0.04)
  variance = (80 + 40 - (80 - 40) ** 2 / 1000) / 1000 / 999
  assert found.error == pytest.approx(math.sqrt(variance))
  # Twice as large if the scores were independent.
  apart = math.hypot(
    *(math.sqrt(x.score * (1 - x.score) / 1000) for x in (a, b))
  )
  assert found.error < 0.7 * apart


def seeds(rng, deviations, num_seeds=5):
  """Scores whose seeds have such standard deviations, on two examples."""
  draws = [x * rng.normal(size=(num_seeds, 1)) for x in deviations]
  return [examples.Means(0.8 + np.repeat(x, 2, axis=1)) for x in draws]


def test_variances_are_drawn_towards_those_of_other_variants():
  rng = np.random.default_rng(0)
  of_same = judge.seed_variances(seeds(rng, [0.02] * 2000))
  assert of_same.typical == pytest.approx(0.02**2, rel=0.05)
  assert of_same.freedom > 100
  assert of_same.total == 2000 * 4
  deviations = 0.02 / np.sqrt(rng.chisquare(6, 2000) / 6)
  found = judge.seed_variances(seeds(rng, deviations))
  assert found.freedom == pytest.approx(6, rel=0.2)
  assert found.typical == pytest.approx(0.02**2, rel=0.1)
  # Each counts by its degrees of freedom.
  of_seeds = SeedVariances(0.02**2, 6.0, 100)
  value, freedom = of_seeds.moderated(0.01**2, 4)
  assert (value, freedom) == (pytest.approx(0.6 * 0.02**2 + 0.4 * 0.01**2), 10)
  # A large one stays.
  assert of_seeds.moderated(0.04**2, 4) == (0.04**2, 10)
  # Two variants tell no more than their seeds together.
  few = dataclasses.replace(of_seeds, total=8)
  assert few.moderated(0.01**2, 4)[1] == 8
  alike = dataclasses.replace(of_seeds, freedom=math.inf)
  assert alike.moderated(0.01**2, 4) == (0.02**2, 100)


def test_one_variance_or_none_is_not_drawn_anywhere():
  assert judge.seed_variances(scores(*of_counts(5, 1, 1, 1))) is None
  (one,) = seeds(np.random.default_rng(0), [0.02], num_seeds=3)
  variance = np.var(one.scores(), ddof=1)
  alone = judge.seed_variances([one, *scores(*of_counts(5, 1, 1, 1))])
  assert alone == SeedVariances(pytest.approx(variance), math.inf, 2)
  same = judge.seed_variances([examples.Means(np.ones((3, 9)))] * 4)
  assert same == SeedVariances(0.0, math.inf, 8)


def test_a_difference_has_the_variances_of_both_models_seeds():
  a, b = seeds(np.random.default_rng(0), [0.01, 0.03])
  of_seeds = SeedVariances(0.02**2, 6.0, 100)
  found = judge.difference(a, b, of_seeds)
  own = [np.var(x.scores(), ddof=1) for x in (a, b)]
  parts = [max(x, 0.6 * 0.02**2 + 0.4 * x) / 5 for x in own]
  assert found.error**2 == pytest.approx(sum(parts))
  unsure = sum(x**2 / 10 for x in parts)
  assert found.freedom == pytest.approx(sum(parts) ** 2 / unsure)


@pytest.mark.parametrize(
  ('num_seeds', 'of_seeds'), [(1, 0.0), (5, 0.0), (5, 0.02)]
)
@pytest.mark.parametrize('of_examples', [0.0, 0.4])
def test_the_error_is_that_of_other_seeds_and_examples(
  num_seeds, of_seeds, of_examples
):
  rng = np.random.default_rng(0)
  normal = lambda scale, *shape: scale * rng.standard_normal(shape)
  differences, variances = [], []
  for _ in range(400):
    shared = normal(0.4, 500)
    a, b = scores(
      *(
        result(
          rng.random((num_seeds, 500))
          < 0.5
          + shared
          + normal(of_examples, 500)
          + normal(of_seeds, num_seeds, 1)
        )
        for _ in range(2)
      )
    )
    found = judge.difference(a, b, None if num_seeds > 1 else KNOWN)
    differences.append(found.value)
    variances.append(found.error**2)
  assert np.mean(variances) == pytest.approx(np.var(differences), rel=0.2)


def test_the_loss_is_compared_with_the_variance_of_each():
  rng = np.random.default_rng(0)
  low, high = np.full((5, 400), 2.0), 3 + 0.5 * rng.normal(size=(5, 1))
  low, high = (
    dataclasses.replace(
      result(np.ones((5, 400), bool)).examples,
      loss=(x + 0.1 * rng.normal(size=(5, 400))).astype(np.float16),
    ).by_loss
    for x in (low, high)
  )
  found = judge.difference(low, high)
  assert found.value == pytest.approx(1.0, abs=0.6)
  seeds = np.std(high.scores(), ddof=1)
  assert found.error == pytest.approx(seeds / math.sqrt(5), rel=0.02)
  assert found.freedom == pytest.approx(4, abs=0.2)  # Of one of them alone.


def test_without_several_seeds_nothing_is_sure():
  found = judge.difference(*scores(*of_counts(700, 300, 0, 0)))
  assert found.value == pytest.approx(0.3)
  assert found.exceeds(0.0) == found.is_below(0.0) == found.is_within(0.5) == 1


def test_p_values_are_those_of_the_normal_distribution():
  found = Difference(0.004, 0.002, math.inf)
  assert found.interval() == pytest.approx((0.00008, 0.00792), abs=1e-6)
  assert found.exceeds(0.0) == pytest.approx(0.02275, abs=1e-5)
  assert found.is_below(0.0) == pytest.approx(1 - 0.02275, abs=1e-5)
  assert found.is_within(0.01) == pytest.approx(0.00135, abs=1e-5)
  # Student's, of few degrees of freedom, are larger.
  assert Difference(0.004, 0.002, 4).exceeds(0.0) == pytest.approx(
    0.0581, abs=1e-4
  )
  same = Difference(0.0, 0.0, math.inf)
  assert same.exceeds(0.0) == same.is_below(0.0) == 1
  assert same.is_within(0.01) == 0


def test_holm_corrects_for_the_number_of_tests():
  ps = [0.04, 0.01, 0.0, 0.02, 0.5]
  corrected = [p * factor for p, factor in zip(ps, judge.holm(ps), strict=True)]
  assert corrected == pytest.approx([0.08, 0.04, 0.0, 0.06, 0.5])
  assert judge.holm(ps)[2] == 5
  assert judge.holm([]) == []


def ranked(scores, labels):
  """Examples with several labels: scores [seeds, examples, classes]."""
  losses = np.zeros(scores.shape[:2])
  return examples.ranked(
    [
      {'all_scores': s, 'all_labels': labels, 'loss': loss}
      for s, loss in zip(scores, losses, strict=True)
    ]
  )


def several_labels(rng, count):
  """Scores of two seeds, with ties, and labels."""
  labels = rng.random((count, 3)) < 0.3
  scores = np.round(labels + rng.normal(0, 1, (2, count, 3)), 1)
  return scores, labels


def test_mean_average_precision_is_that_of_the_scores():
  scores, labels = several_labels(np.random.default_rng(0), 200)
  found = ranked(scores, labels)
  expected = [average_precision_score(labels, x) for x in scores]
  assert found.scores() == pytest.approx(expected)
  # Examples that are drawn twice count twice.
  drawn = np.random.default_rng(1).integers(200, size=200)
  weights = np.bincount(drawn, minlength=200)[None]
  again = [average_precision_score(labels[drawn], x[drawn]) for x in scores]
  assert found._mean_precisions(weights)[0] == pytest.approx(again)


def test_the_bootstraps_error_is_that_of_other_examples():
  rng = np.random.default_rng(0)
  differences, errors = [], []
  for _ in range(60):
    labels = rng.random((150, 3)) < 0.3
    shared = labels + rng.normal(0, 1, (150, 3))
    a, b = (
      ranked((shared + rng.normal(0, noise, (150, 3)))[None], labels)
      for noise in (0.3, 0.6)
    )
    differences.append(a.scores()[0] - b.scores()[0])
    errors.append(math.sqrt(a.variance(b)))
  assert np.mean(errors) == pytest.approx(np.std(differences), rel=0.25)


def errs(judgement):
  """Whether a verdict is wrong where all models are equally good."""
  wrong = {verdicts.FAILS}
  if judgement.claim.relation == 'exceeds':
    wrong.add(verdicts.HOLDS)
  return judgement.verdict in wrong


@pytest.mark.slow
def test_with_no_difference_it_errs_in_a_twentieth_of_sweeps():
  rng = np.random.default_rng(0)
  wrong = sum(
    any(map(errs, verdicts.judge_all(simulated_sweeps.sweep(rng))))
    for _ in range(1000)
  )
  assert wrong <= 50


@pytest.mark.slow
def test_with_a_difference_of_a_point_it_decides():
  rng = np.random.default_rng(0)
  points = simulated_sweeps.levels()
  tells, count = 0, 0
  for _ in range(20):
    found = verdicts.judge_all(simulated_sweeps.sweep(rng, points))
    for claim, judgement in zip(CLAIMS, found, strict=True):
      (a, relation, b), *more = claim.comparisons
      is_of_images = title(a).startswith('fashion_mnist')
      if more or relation == 'equals' or not is_of_images:
        continue
      assert judgement.verdict != verdicts.FAILS
      if points[a] - points[b] == 1:
        tells += judgement.verdict == verdicts.HOLDS
        count += 1
  assert count >= 100
  assert tells >= 0.8 * count
