"""What the paper claims, and whether it holds in small.

A claim compares scores; each comparison has the standard error of a difference
of independent scores, and is decided at two of them.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import math
from typing import Literal

from scripts.paper.results import Result

HOLDS, FAILS, UNKNOWN, NOT_RUN = (
  'holds',
  'does not hold',
  'cannot be told at this size',
  'not run',
)
DECIDES = 2.0  # Standard errors.


@dataclasses.dataclass(frozen=True)
class Comparison:
  """Of the score of one variant with another's."""

  first: str  # 'config:variant'
  relation: Literal['exceeds', 'equals']
  second: str

  def difference(self, results: Mapping[str, Result]) -> tuple[float, float]:
    """Of the scores, and its standard error; KeyError if one was not run."""
    first, second = results[self.first], results[self.second]
    error = math.hypot(first.standard_error, second.standard_error)
    return first.score - second.score, error

  def verdict(self, results: Mapping[str, Result]) -> str:
    """Whether it holds.

    Scores are equal as long as they do not differ by two standard errors; that
    cannot show more than the errors allow, which is why they are printed.
    """
    if not {self.first, self.second} <= results.keys():
      return NOT_RUN
    difference, error = self.difference(results)
    if math.isnan(error):
      return UNKNOWN
    if self.relation == 'equals':
      return HOLDS if abs(difference) <= DECIDES * error else FAILS
    if abs(difference) <= DECIDES * error:
      return UNKNOWN
    return HOLDS if difference > 0 else FAILS


@dataclasses.dataclass(frozen=True)
class Claim:
  """A sentence of the paper's, as comparisons that must all hold."""

  text: str
  where: str  # In the paper.
  paper: str  # Its figures.
  comparisons: tuple[Comparison, ...]

  def verdict(self, results: Mapping[str, Result]) -> str:
    verdicts = [c.verdict(results) for c in self.comparisons]
    for verdict in (NOT_RUN, FAILS, UNKNOWN):
      if verdict in verdicts:
        return verdict
    return HOLDS


def _claim(
  text: str,
  where: str,
  paper: str,
  *comparisons: tuple[str, Literal['exceeds', 'equals'], str],
  config: str = 'fashion_mnist',
) -> Claim:
  return Claim(
    text,
    where,
    paper,
    tuple(
      Comparison(f'{config}:{first}', relation, f'{config}:{second}')
      for first, relation, second in comparisons
    ),
  )


CLAIMS = (
  _claim(
    'Permuting the pixels changes nothing for the Perceiver',
    'Table 2',
    '78.0 / 78.0',
    ('table2_perceiver', 'equals', 'table2_perceiver_permuted'),
  ),
  _claim(
    'nor for the Perceiver with learned positions',
    'Table 2',
    '70.9 / 70.9',
    ('table2_learned', 'equals', 'table2_learned_permuted'),
  ),
  _claim(
    'nor for the Transformer',
    'Table 2',
    '57.0 / 57.0',
    ('table2_transformer', 'equals', 'table2_transformer_permuted'),
  ),
  _claim(
    'It makes ResNet worse',
    'Table 2',
    '73.5 / 39.4',
    ('table2_resnet', 'exceeds', 'table2_resnet_permuted'),
  ),
  _claim(
    'and ViT worse',
    'Table 2',
    '76.7 / 61.7',
    ('table2_vit', 'exceeds', 'table2_vit_permuted'),
  ),
  _claim(
    'The Perceiver is better than ResNet on images',
    'Table 2',
    '78.0, 73.5',
    ('table2_perceiver', 'exceeds', 'table2_resnet'),
  ),
  _claim(
    'and better than ViT',
    'Table 2',
    '78.0, 76.7',
    ('table2_perceiver', 'exceeds', 'table2_vit'),
  ),
  _claim(
    'and better than a Transformer on fewer pixels',
    'Table 2',
    '78.0, 57.0',
    ('table2_perceiver', 'exceeds', 'table2_transformer'),
  ),
  _claim(
    'and better than ResNet and ViT on permuted images',
    'Table 2',
    '78.0; 39.4, 61.7',
    ('table2_perceiver_permuted', 'exceeds', 'table2_resnet_permuted'),
    ('table2_perceiver_permuted', 'exceeds', 'table2_vit_permuted'),
  ),
  _claim(
    'Fourier features are better than learned positions',
    'Table 2',
    '78.0, 70.9',
    ('table2_perceiver', 'exceeds', 'table2_learned'),
  ),
  _claim(
    'Video and raw audio together are better than each',
    'Table 3',
    '43.5; 25.8, 38.3',
    ('table3_av_raw', 'exceeds', 'table3_video'),
    ('table3_av_raw', 'exceeds', 'table3_raw'),
    config='audioset',
  ),
  _claim(
    'Video and mel together are better than each',
    'Table 3',
    '43.2; 25.8, 38.4',
    ('table3_av_mel', 'exceeds', 'table3_video'),
    ('table3_av_mel', 'exceeds', 'table3_mel'),
    config='audioset',
  ),
  _claim(
    'Raw audio is as good as mel',
    'Table 3',
    '38.3, 38.4',
    ('table3_raw', 'equals', 'table3_mel'),
    config='audioset',
  ),
  _claim(
    'Audio is better than video',
    'Table 3',
    '38.3, 38.4; 25.8',
    ('table3_raw', 'exceeds', 'table3_video'),
    ('table3_mel', 'exceeds', 'table3_video'),
    config='audioset',
  ),
  _claim(
    'Video dropout helps with raw audio',
    'Table 3, text',
    '43.5, 39.7',
    ('table3_av_raw', 'exceeds', 'table3_av_raw_no_video_dropout'),
    config='audioset',
  ),
  _claim(
    'and it helps with mel',
    'Table 3, text',
    '43.2, 39.9',
    ('table3_av_mel', 'exceeds', 'table3_av_mel_no_video_dropout'),
    config='audioset',
  ),
  _claim(
    'Spectrogram dropout is better than SpecAugment',
    'Table 3',
    '44.2, 43.2',
    ('table3_av_mel_tuned', 'exceeds', 'table3_av_mel'),
    config='audioset',
  ),
  _claim(
    'On point clouds the Perceiver is better than ResNet',
    'Table 4',
    '85.7, 66.3',
    ('table4_perceiver', 'exceeds', 'table4_resnet'),
    config='modelnet40',
  ),
  _claim(
    'and better than ViT with patches of 2',
    'Table 4',
    '85.7, 78.9',
    ('table4_perceiver', 'exceeds', 'table4_vit_patch2'),
    config='modelnet40',
  ),
  _claim(
    'and better than a Transformer',
    'Table 4',
    '85.7, 82.1',
    ('table4_perceiver', 'exceeds', 'table4_transformer'),
    config='modelnet40',
  ),
  _claim(
    'and ViT is worse the larger its patches',
    'Table 4',
    '78.9, 73.4, 65.3, 59.6',
    ('table4_vit_patch2', 'exceeds', 'table4_vit_patch4'),
    ('table4_vit_patch4', 'exceeds', 'table4_vit_patch8'),
    ('table4_vit_patch8', 'exceeds', 'table4_vit_patch16'),
    config='modelnet40',
  ),
  _claim(
    'Without latent Transformers the Perceiver is far worse',
    'Table 5',
    '45.3 (8); 78.0',
    ('table2_perceiver', 'exceeds', 'table5_8'),
  ),
  _claim(
    'More cross-attends alone help',
    'Table 5',
    '39.4 (4), 45.3 (8)',
    ('table5_8', 'exceeds', 'table5_4'),
  ),
  _claim(
    'Looking again, between the latent Transformers, helps',
    'Table 6',
    '76.7 (1), 78.0 (8)',
    ('table2_perceiver', 'exceeds', 'table6_1'),
  ),
  _claim(
    'Interleaved is better than at the start',
    'Table 6',
    '78.0, 73.7 (8)',
    ('table2_perceiver', 'exceeds', 'table6_4_at_start'),
  ),
  _claim(
    'Sharing weights is better',
    'Table 7',
    '78.0, 72.9',
    ('table2_perceiver', 'exceeds', 'table7_not_shared'),
  ),
  _claim(
    'More latents are better',
    'Figure 5',
    'a plot',
    ('fig5_latents_32', 'exceeds', 'fig5_latents_8'),
  ),
  _claim(
    'More cross-attends are better',
    'Figure 5',
    'a plot',
    ('table7_not_shared', 'exceeds', 'fig5_cross_attends_1'),
  ),
  _claim(
    'More self-attends are better',
    'Figure 5',
    'a plot',
    ('fig5_self_attends_4', 'exceeds', 'table7_not_shared'),
  ),
  _claim(
    'A small init scale of the latents is better than a large one',
    'Figure 6',
    'a plot',
    ('table2_perceiver', 'exceeds', 'fig6_init_scale_1.0'),
  ),
  _claim(
    'More bands are better',
    'Figure 6',
    'a plot',
    ('table2_perceiver', 'exceeds', 'fig6_bands_2'),
  ),
  _claim(
    "A maximum resolution as high as the image's is better than a lower one",
    'Figure 6',
    'a plot',
    ('table2_perceiver', 'exceeds', 'fig6_max_resolution_7'),
  ),
)


def markdown(results: Mapping[str, Result]) -> str:
  """The claims, the paper's figures, ours and whether they hold."""
  lines = [
    "| The paper's claim | where | its figures | ours, and the difference | |",
    '| --- | --- | --- | --- | --- |',
  ]
  for claim in CLAIMS:
    verdict = claim.verdict(results)
    lines.append(
      f'| {claim.text} | {claim.where} | {claim.paper} |'
      f' {_ours(claim.comparisons, results)} | {verdict} |'
    )
  return '\n'.join(lines)


def _ours(
  comparisons: Sequence[Comparison], results: Mapping[str, Result]
) -> str:
  texts = []
  for comparison in comparisons:
    if comparison.verdict(results) == NOT_RUN:
      continue
    difference, error = comparison.difference(results)
    first, second = (
      100 * results[x].score for x in (comparison.first, comparison.second)
    )
    signed = f'{100 * difference:+.2f}'.replace('-', '−')
    texts.append(f'{first:.2f} − {second:.2f} = {signed} ± {100 * error:.2f}')
  return '; '.join(texts)
