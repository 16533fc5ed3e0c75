"""The paper's claims, as comparisons of rows and points in small."""

import dataclasses
from typing import Literal

from scripts.paper.rows import SCORES

# Ends a variant that is tested with the video taken away.
WITHOUT_VIDEO = '/eval_without_video'
# Rows and points are compared by their small variants.
Comparison = tuple[str, Literal['exceeds', 'equals'], str]


@dataclasses.dataclass(frozen=True)
class Claim:
  """A sentence of the paper's, as comparisons of scores that must all hold."""

  text: str
  where: str  # In the paper.
  comparisons: tuple[Comparison, ...]
  # The paper's scores, numbered as the comparisons first name them.
  figures: str = '{}, {}'
  by_loss: bool = False  # Compared by the loss instead of the score.

  @property
  def relation(self) -> str:
    """The relation of its comparisons, which is the same for all."""
    (relation,) = {x for _, x, _ in self.comparisons}
    return relation

  @property
  def paper(self) -> str:
    """The paper's scores."""
    names = dict.fromkeys(x for a, _, b in self.comparisons for x in (a, b))
    return self.figures.format(*map(SCORES.get, names))


CLAIMS = (
  Claim(
    'Permuting the pixels changes nothing for the Perceiver',
    'Table 2',
    (('table2_perceiver', 'equals', 'table2_perceiver_permuted'),),
    '{} / {}',
  ),
  Claim(
    'nor for the Perceiver with learned positions',
    'Table 2',
    (('table2_learned', 'equals', 'table2_learned_permuted'),),
    '{} / {}',
  ),
  Claim(
    'nor for the Transformer',
    'Table 2',
    (('table2_transformer', 'equals', 'table2_transformer_permuted'),),
    '{} / {}',
  ),
  Claim(
    'It makes ResNet worse',
    'Table 2',
    (('table2_resnet', 'exceeds', 'table2_resnet_permuted'),),
    '{} / {}',
  ),
  Claim(
    'and ViT worse',
    'Table 2',
    (('table2_vit', 'exceeds', 'table2_vit_permuted'),),
    '{} / {}',
  ),
  Claim(
    'The Perceiver is better than ResNet on images',
    'Table 2',
    (('table2_perceiver', 'exceeds', 'table2_resnet'),),
  ),
  Claim(
    'and better than ViT',
    'Table 2',
    (('table2_perceiver', 'exceeds', 'table2_vit'),),
  ),
  Claim(
    'and better than a Transformer on fewer pixels',
    'Table 2',
    (('table2_perceiver', 'exceeds', 'table2_transformer'),),
  ),
  Claim(
    'and better than ResNet and ViT on permuted images',
    'Table 2',
    (
      ('table2_perceiver_permuted', 'exceeds', 'table2_resnet_permuted'),
      ('table2_perceiver_permuted', 'exceeds', 'table2_vit_permuted'),
    ),
    '{}; {}, {}',
  ),
  Claim(
    'Fourier features are better than learned positions',
    'Table 2',
    (('table2_perceiver', 'exceeds', 'table2_learned'),),
  ),
  Claim(
    'Video and raw audio together are better than each',
    'Table 3',
    (
      ('table3_av_raw', 'exceeds', 'table3_video'),
      ('table3_av_raw', 'exceeds', 'table3_raw'),
    ),
    '{}; {}, {}',
  ),
  Claim(
    'Video and mel together are better than each',
    'Table 3',
    (
      ('table3_av_mel', 'exceeds', 'table3_video'),
      ('table3_av_mel', 'exceeds', 'table3_mel'),
    ),
    '{}; {}, {}',
  ),
  Claim(
    'Raw audio is as good as mel',
    'Table 3',
    (('table3_raw', 'equals', 'table3_mel'),),
  ),
  Claim(
    'Audio is better than video',
    'Table 3',
    (
      ('table3_raw', 'exceeds', 'table3_video'),
      ('table3_mel', 'exceeds', 'table3_video'),
    ),
    '{0}, {2}; {1}',
  ),
  Claim(
    'Video dropout helps with raw audio',
    'Table 3, text',
    (('table3_av_raw', 'exceeds', 'table3_av_raw_no_video_dropout'),),
  ),
  Claim(
    'and it helps with mel',
    'Table 3, text',
    (('table3_av_mel', 'exceeds', 'table3_av_mel_no_video_dropout'),),
  ),
  # What it is for; the paper does not test it. mAP ranks clips within a class,
  # and does not see when all scores are too high.
  Claim(
    'Where there is no video, video dropout helps with raw audio',
    'our own',
    (
      (
        f'table3_av_raw{WITHOUT_VIDEO}',
        'exceeds',
        f'table3_av_raw_no_video_dropout{WITHOUT_VIDEO}',
      ),
    ),
    'no test',
    by_loss=True,
  ),
  Claim(
    'and with mel',
    'our own',
    (
      (
        f'table3_av_mel{WITHOUT_VIDEO}',
        'exceeds',
        f'table3_av_mel_no_video_dropout{WITHOUT_VIDEO}',
      ),
    ),
    'no test',
    by_loss=True,
  ),
  Claim(
    'Spectrogram dropout is better than SpecAugment',
    'Table 3',
    (('table3_av_mel_tuned', 'exceeds', 'table3_av_mel'),),
  ),
  Claim(
    'On point clouds the Perceiver is better than ResNet',
    'Table 4',
    (('table4_perceiver', 'exceeds', 'table4_resnet'),),
  ),
  Claim(
    'and better than ViT with patches of 2',
    'Table 4',
    (('table4_perceiver', 'exceeds', 'table4_vit_patch2'),),
  ),
  Claim(
    'and better than a Transformer',
    'Table 4',
    (('table4_perceiver', 'exceeds', 'table4_transformer'),),
  ),
  Claim(
    'and ViT is worse the larger its patches',
    'Table 4',
    (
      ('table4_vit_patch2', 'exceeds', 'table4_vit_patch4'),
      ('table4_vit_patch4', 'exceeds', 'table4_vit_patch8'),
      ('table4_vit_patch8', 'exceeds', 'table4_vit_patch16'),
    ),
    '{}, {}, {}, {}',
  ),
  Claim(
    'Without latent Transformers the Perceiver is far worse',
    'Table 5',
    (('table7_shared', 'exceeds', 'table5_8'),),
    '{1} (8); {0}',
  ),
  Claim(
    'More cross-attends alone help',
    'Table 5',
    (('table5_8', 'exceeds', 'table5_4'),),
    '{1} (4), {0} (8)',
  ),
  Claim(
    'Looking again, between the latent Transformers, helps',
    'Table 6',
    (('table2_perceiver', 'exceeds', 'table6_1_interleaved'),),
    '{1} (1), {0} (8)',
  ),
  Claim(
    'Interleaved is better than at the start',
    'Table 6',
    (('table2_perceiver', 'exceeds', 'table6_4_at_start'),),
    '{}, {} (8)',
  ),
  Claim(
    'Sharing weights is better',
    'Table 7',
    (('table7_shared', 'exceeds', 'table7_not_shared'),),
  ),
  Claim(
    'More latents are better',
    'Figure 5',
    (('fig5_latents_32', 'exceeds', 'fig5_latents_8'),),
    'a plot',
  ),
  Claim(
    'More cross-attends are better',
    'Figure 5',
    (('fig5_not_shared', 'exceeds', 'fig5_cross_attends_1'),),
    'a plot',
  ),
  Claim(
    'More self-attends are better',
    'Figure 5',
    (('fig5_self_attends_4', 'exceeds', 'fig5_not_shared'),),
    'a plot',
  ),
  Claim(
    'A small init scale of the latents is better than a large one',
    'Figure 6',
    (('table2_perceiver', 'exceeds', 'fig6_init_scale_1.0'),),
    'a plot',
  ),
  Claim(
    'More bands are better',
    'Figure 6',
    (('table2_perceiver', 'exceeds', 'fig6_bands_2'),),
    'a plot',
  ),
  Claim(
    "A maximum resolution as high as the image's is better than a lower one",
    'Figure 6',
    (('table2_perceiver', 'exceeds', 'fig6_max_resolution_7'),),
    'a plot',
  ),
)
