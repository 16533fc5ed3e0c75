"""Settings are checked against the ranges in their annotations."""

import math
from typing import Annotated

import haiku as hk
import pytest

import perceiver
from perceiver import baselines, ranges
from perceiver.ranges import Count, Range


@pytest.mark.parametrize(
  ('text', 'inside', 'outside'),
  [
    ('[0, 1)', (0, 0.5, 0.999), (-1e-9, 1, 1.0, 2)),
    ('(0, 1]', (1e-300, 1), (0, 0.0, 1.001)),
    ('[1, inf)', (1, 10**30), (0, -math.inf)),
    ('(0, inf)', (5e-324, 1e308), (0,)),
  ],
)
def test_a_range_is_an_interval(text, inside, outside):
  assert all(number in Range(text) for number in inside)
  for number in (*outside, math.nan, math.inf):
    assert number not in Range(text)


def settings(
  one: Count,
  several: tuple[Count, ...] | None = None,
  rate: Annotated[float, Range('[0, 1)')] = 0.0,
  free: float = 0.0,
) -> None:
  del one, several, rate, free


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    ({'one': 0}, r'^s\.one=0 must be in \[1, inf\)\.$'),
    ({'several': (1, 2, -3)}, r'^s\.several=\(1, 2, -3\) must be in \[1, inf'),
    ({'one': 1, 'rate': 1.0}, r'^s\.rate=1.0 must be in \[0, 1\)\.$'),
    ({'rate': math.nan}, r'^s\.rate=nan must be'),
  ],
)
def test_what_is_out_of_range_is_named(values, message):
  with pytest.raises(ValueError, match=message):
    ranges.check(settings, values, 's.')


def test_what_is_in_range_or_has_none_passes():
  values = {'one': 3, 'several': None, 'rate': 0, 'free': math.nan, 'other': -1}
  ranges.check(settings, values)
  ranges.check(settings, {'several': (1, 2), 'one': True})


@pytest.mark.parametrize(
  ('module', 'arguments', 'message'),
  [
    (perceiver.Perceiver, {'dropout_rate': 2.0}, 'dropout_rate=2.0 must be'),
    (baselines.ResNet, {'blocks': (3, 0)}, r'blocks=\(3, 0\) must be in'),
    (baselines.VisionTransformer, {'patch_size': 0}, 'patch_size=0 must'),
    (baselines.Transformer, {'channels': -1}, 'channels=-1 must be in'),
  ],
)
def test_modules_check_what_they_are_given(module, arguments, message):
  with pytest.raises(ValueError, match=message):
    hk.transform(lambda: module(num_classes=2, **arguments)).init(None)
