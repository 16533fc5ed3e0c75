"""The figures of the paper's tables, and the variants that reproduce them."""

from collections.abc import Mapping
import dataclasses

DIGITS = 1  # That the paper prints after the decimal point.
COST_TABLES = (5, 6, 7)
# The quantities that a run is evaluated for, and their names there.
METRICS = {'top-1 %': 'top1', 'best top-1 %': 'top1', 'mAP': 'mAP'}


@dataclasses.dataclass(frozen=True)
class Row:
  """A row of the paper's tables: figures by quantity."""

  name: str
  variant: str | None  # Of the table's config; None: from the literature.
  paper: Mapping[str, float]
  note: str = ''  # On the quantity that it starts with.


def _accuracy(name: str, variant: str | None, top1: float) -> Row:
  return Row(name, variant, {'top-1 %': top1})


def _map(name: str, variant: str, value: float) -> Row:
  return Row(name, variant, {'mAP': value})


def _best(name: str, variant: str | None, top1: float) -> Row:
  return Row(name, variant, {'best top-1 %': top1})


def _widened(
  name: str, variant: str, top1: float, parameters: float, first_layer: int
) -> Row:
  """A baseline whose first layer sees 258 channels of position features.

  Args:
    name: of the row.
    variant: of the config.
    top1: the paper's.
    parameters: on RGB, in the literature, in 1e6.
    first_layer: weights for each input channel.
  """
  added = 258 * first_layer / 1e6
  return Row(
    name,
    variant,
    {'top-1 %': top1, 'M parameters': round(parameters + added, DIGITS)},
    f'M parameters: {parameters} in the literature, on RGB, and {added:.1f} for'
    ' 258 channels more',
  )


def _costs(
  name: str,
  variant: str,
  top1: float | None,
  gflops: float,
  parameters: float,
  note: str = '',
) -> Row:
  paper = {'GFLOPs': gflops, 'M parameters': parameters}
  return Row(
    name, variant, paper if top1 is None else paper | {'top-1 %': top1}, note
  )


MISPRINT = (
  'M parameters is a misprint in the paper: the same model interleaved, in its'
  ' next row, has 42.1'
)
TABLES = {  # The config that the variants are of, and the rows.
  1: (
    'imagenet',
    (
      _accuracy('ResNet-50', None, 77.6),
      _accuracy('ViT-B/16', None, 77.9),
      _widened('ResNet-50 (FF)', 'resnet50', 73.5, 25.6, 7 * 7 * 64),
      _widened('ViT-B/16 (FF)', 'vit_b16', 76.7, 86.6, 16 * 16 * 768),
      _accuracy('Transformer 64x64 (FF)', 'transformer64', 57.0),
      _accuracy('Perceiver (FF)', '', 78.0),
    ),
  ),
  2: (
    'imagenet',
    (
      _accuracy('ResNet-50 (FF)', 'resnet50', 73.5),
      _accuracy('  permuted', 'resnet50_permuted', 39.4),
      _accuracy('ViT-B/16 (FF)', 'vit_b16', 76.7),
      _accuracy('  permuted', 'vit_b16_permuted', 61.7),
      _accuracy('Transformer 64x64 (FF)', 'transformer64', 57.0),
      _accuracy('  permuted', 'transformer64_permuted', 57.0),
      _accuracy('Perceiver (FF)', '', 78.0),
      _accuracy('  permuted', 'permuted', 78.0),
      _accuracy('Perceiver (learned pos.)', 'learned', 70.9),
      _accuracy('  permuted', 'learned_permuted', 70.9),
    ),
  ),
  3: (
    'audioset',
    (
      _map('raw audio', 'raw', 38.3),
      _map('  video', 'video', 25.8),
      _map('  A+V', '', 43.5),
      _map('mel spectrogram', 'mel', 38.4),
      _map('  video', 'video', 25.8),
      _map('  A+V', 'av_mel', 43.2),
      _map('mel, tuned: A+V', 'av_mel_tuned', 44.2),
      # Of the text.
      _map('raw A+V, no video drop.', 'av_raw_no_video_dropout', 39.7),
      _map('mel A+V, no video drop.', 'av_mel_no_video_dropout', 39.9),
    ),
  ),
  # The best by its score on the test set, which is how the paper picks.
  4: (
    'modelnet40',
    (
      _best('PointNet++', None, 91.9),
      _best('ResNet-50 (FF)', 'resnet50', 66.3),
      _best('ViT-B patch 2 (FF)', 'vit_b_patch2', 78.9),
      _best('ViT-B patch 4 (FF)', 'vit_b_patch4', 73.4),
      _best('ViT-B patch 8 (FF)', 'vit_b_patch8', 65.3),
      _best('ViT-B patch 16 (FF)', 'vit_b_patch16', 59.6),
      _best('Transformer 44x44', 'transformer44', 82.1),
      _best('Perceiver', '', 85.7),
    ),
  ),
  5: (
    'imagenet',
    (
      _costs('4 cross-attends alone', 'table5_4', 39.4, 173.1, 12.7),
      _costs('8 cross-attends alone', 'table5_8', 45.3, 346.1, 23.8),
      _costs('12 cross-attends alone', 'table5_12', None, 519.2, 34.9),
    ),
  ),
  6: (
    'imagenet',
    (
      _costs('1 at start', 'table6_1_at_start', 76.7, 404.3, 41.1, MISPRINT),
      _costs('1 interleaved', 'table6_1_interleaved', 76.7, 404.3, 42.1),
      _costs('2 at start', 'table6_2_at_start', 76.7, 447.6, 44.9),
      _costs('2 interleaved', 'table6_2_interleaved', 76.5, 447.6, 44.9),
      _costs('4 at start', 'table6_4_at_start', 75.9, 534.1, 44.9),
      _costs('4 interleaved', 'table6_4_interleaved', 76.5, 534.1, 44.9),
      _costs('8 at start', 'table6_8_at_start', 73.7, 707.2, 44.9),
      _costs('8 interleaved', 'table6_8_interleaved', 78.0, 707.2, 44.9),
    ),
  ),
  7: (
    'imagenet',
    (
      _costs('no weight sharing', 'table7_not_shared', 72.9, 707.2, 326.2),
      _costs('weight sharing', '', 78.0, 707.2, 44.9),
    ),
  ),
}
