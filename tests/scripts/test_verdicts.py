"""A claim holds, fails, compares what is equal, or cannot be told."""

import numpy as np
import pytest

from scripts.paper import verdicts
from scripts.paper.claims import Claim
from scripts.paper.rows import title
from tests.scripts.simulated_sweeps import result


def test_results_of_other_examples_are_not_compared():
  known = {title('a'): result(np.ones((3, 9), bool))}
  known[title('b')] = result(np.ones((3, 8), bool))
  claim = Claim('', '', (('a', 'exceeds', 'b'),))
  with pytest.raises(
    ValueError, match=r'a and b cannot be compared: .* 9 and 8'
  ):
    verdicts.judge_all(known, [claim])


def results_of(**differences):
  """Results that are above that of 'base' by so much, with small errors."""
  rng = np.random.default_rng(0)
  shared = rng.random((1, 25_000))
  return {
    title(name): result(
      shared + 0.02 * rng.normal(size=(3, 25_000)) < 0.8 + difference
    )
    for name, difference in {'base': 0.0, **differences}.items()
  }


@pytest.mark.parametrize(
  ('relation', 'above', 'verdict'),
  [
    ('exceeds', 0.03, verdicts.HOLDS),
    ('exceeds', 0.006, verdicts.HOLDS),  # Less than a point, but not nothing.
    ('exceeds', -0.03, verdicts.FAILS),
    ('exceeds', 0.0, verdicts.EQUAL),
    ('equals', 0.0, verdicts.HOLDS),
    ('equals', 0.006, verdicts.HOLDS),
    ('equals', 0.03, verdicts.FAILS),
    ('equals', -0.03, verdicts.FAILS),
    ('equals', 0.01, verdicts.UNKNOWN),
  ],
)
def test_the_verdict_on_a_claim(relation, above, verdict):
  known = results_of(ours=above)
  claim = Claim('', '', (('ours', relation, 'base'),))
  (judgement,) = verdicts.judge_all(known, [claim])
  assert judgement.verdict == verdict
  assert judgement.least.value == pytest.approx(above, abs=2e-3)
  # Among many claims the same difference tells less.
  (first, *_) = verdicts.judge_all(known, [claim] * 30)
  assert first.adjusted == pytest.approx(min(1.0, 30 * first.p))
  assert first.p == judgement.p
  del known[title('ours')]
  (missing,) = verdicts.judge_all(known, [claim])
  assert missing.verdict == verdicts.NOT_RUN


@pytest.mark.parametrize(
  ('second', 'verdict'),
  [
    (-0.03, verdicts.HOLDS),
    (0.07, verdicts.FAILS),
    (0.03, verdicts.EQUAL),  # To 'ours'.
  ],
)
def test_a_claim_holds_if_all_of_its_comparisons_do(second, verdict):
  known = results_of(ours=0.03, other=second)
  both = (('ours', 'exceeds', 'base'), ('ours', 'exceeds', 'other'))
  (judgement,) = verdicts.judge_all(known, [Claim('', '', both)])
  assert judgement.verdict == verdict
  assert len(judgement.differences) == 2
  assert judgement.least.value == pytest.approx(0.03 - max(0, second), abs=2e-3)


def test_what_is_equal_does_not_make_a_difference_more_likely():
  known = results_of(other=0.0, ours=0.001)
  claim, other = (
    Claim('', '', ((name, 'exceeds', 'base'),)) for name in ('ours', 'other')
  )
  (alone,) = verdicts.judge_all(known, [claim])
  assert alone.verdict == verdicts.HOLDS
  assert 0.005 < alone.p < 0.05
  found = verdicts.judge_all(known, [claim] + [other] * 30)
  assert {x.verdict for x in found} == {verdicts.EQUAL}


def test_what_cannot_be_told_shows_the_p_value_that_comes_nearest():
  rng = np.random.default_rng(0)
  known = {
    title(name): result(rng.random((3, 200)) < score)
    for name, score in (('base', 0.8), ('ours', 0.77))
  }
  claims = [Claim('', '', (('ours', 'exceeds', 'base'),))] * 30
  first, *_ = verdicts.judge_all(known, claims)
  assert first.verdict == verdicts.UNKNOWN
  assert first.p < 0.9 < first.adjusted == 1
