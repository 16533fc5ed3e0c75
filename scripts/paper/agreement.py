"""Shows by runs that permuting the pixels leaves a model the same function.

With its position features permuted along, a model without a notion of what is
next to what computes the same sums in another order. So two runs that differ in
the permutation alone begin with the same weights, and rounding makes them
drift apart, while runs that differ in the seed never were alike.
"""

from collections.abc import Mapping
import itertools

import numpy as np

from scripts.paper.examples import Classified
from scripts.paper.results import Result
from scripts.paper.rows import title
from scripts.shared import markdown

MODELS = {
  'Perceiver': 'table2_perceiver',
  'with learned positions': 'table2_learned',
  'Transformer': 'table2_transformer',
  'ResNet': 'table2_resnet',
  'ViT': 'table2_vit',
}


def table(results: Mapping[str, Result]) -> str:
  """In how many test images runs agree, in Markdown; '' if none was run.

  Two runs agree where both are right, or both wrong.
  """
  rows = []
  for name, small in MODELS.items():
    raw, permuted = (
      results.get(title(x)) for x in (small, f'{small}_permuted')
    )
    if raw is None or permuted is None:
      continue
    rows.append([name, *_agreements(raw, permuted)])
  if not rows:
    return ''
  header = ['agreement, %', 'permuted, same seed', 'another seed']
  return markdown.table(header, rows, 'lrr')


def _agreements(raw: Result, permuted: Result) -> tuple[str, str]:
  """Mean agreements of runs that differ in the permutation, and the seed."""
  both = [x.examples for x in (raw, permuted)]
  assert all(isinstance(x, Classified) for x in both)
  correct = [x.correct for x in both if isinstance(x, Classified)]
  agree = lambda pairs: f'{100 * np.mean([a == b for a, b in pairs]):.1f}'
  seeds = agree(pair for x in correct for pair in itertools.combinations(x, 2))
  if raw.learning_rate != permuted.learning_rate:
    return 'other learning rate', seeds
  return agree(zip(*correct, strict=True)), seeds
