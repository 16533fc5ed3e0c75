"""The paper's figures: every row of its tables, as data.

A row names the variant that trains it at full size and the one that stands for
it in small. Texts that repeat a figure are generated from here or checked by a
test.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any

DIGITS = 1  # How many the paper prints after the decimal point.
COST_TABLES = (5, 6, 7)
SMALL_TABLES = (2, 3, 4, 5, 6, 7)  # Table 1's rows are in Table 2.
# The quantities that a run is evaluated for, and the metric of each.
METRICS = {'top-1 %': 'top1', 'best top-1 %': 'top1', 'mAP': 'mAP'}


@dataclasses.dataclass(frozen=True)
class Row:
  """One row of a table: the paper's figures, and the variants that train it."""

  name: str  # Indented if it continues the row above.
  variant: str | None  # In the table's config; None: not trained at full size.
  small: str | None  # The variant in small, see `title`; None: there is none.
  paper: Mapping[str, float]  # Figures by quantity; empty: a row of our own.
  note: str = ''  # On the quantity that it starts with.
  train: float | None = None  # The paper's top-1 % on the training set.

  @property
  def score(self) -> float | None:
    """The paper's figure for the test set; None if it has none."""
    return next((x for q, x in self.paper.items() if q in METRICS), None)


@dataclasses.dataclass(frozen=True)
class Table:
  """A table's rows, which are variants of one config."""

  config: str
  rows: tuple[Row, ...]


def title(small: str) -> str:
  """Returns 'config:variant', the name of a small variant in a sweep.

  Where it is tested on another split, both end with '/SPLIT'.
  """
  configs = {'table3': 'audioset', 'table4': 'modelnet40'}
  return f'{configs.get(small.partition("_")[0], "fashion_mnist")}:{small}'


def _scores(
  quantity: str, *rows: tuple[str, str | None, str | None, float]
) -> tuple[Row, ...]:
  """Rows with one figure each: (name, variant, variant in small, figure)."""
  return tuple(
    Row(name, variant, small, {quantity: score})
    for name, variant, small, score in rows
  )


def _permuted(row: Row, top1: float) -> Row:
  """The same model on permuted pixels."""
  variant = f'{row.variant}_permuted'.lstrip('_')
  return Row('  permuted', variant, f'{row.small}_permuted', {'top-1 %': top1})


def _widened(row: Row, parameters: float, first_layer: int) -> Row:
  """A baseline whose first layer sees 258 channels of position features.

  The literature has `parameters`, in 1e6, on RGB; `first_layer` is the number
  of weights for each input channel.
  """
  added = 258 * first_layer / 1e6
  return dataclasses.replace(
    row,
    paper={**row.paper, 'M parameters': round(parameters + added, DIGITS)},
    note=f'M parameters: {parameters} in the literature, on RGB, and'
    f' {added:.1f} for 258 channels more',
  )


def _costs(
  name: str, variant: str, small: str | None, *figures: float, **more: Any
) -> Row:
  """A row with GFLOPs, M parameters and, unless it has none, top-1 %."""
  quantities = ('GFLOPs', 'M parameters', 'top-1 %')
  paper = dict(zip(quantities, figures, strict=False))
  return Row(name, variant, small, paper, **more)


def _placed(
  name: str, small: str | None, *figures: float, note: str = ''
) -> Row:
  """A row of Table 6: how many cross-attends, and where."""
  variant = f'table6_{name.replace(" ", "_")}'
  return _costs(name, variant, small, *figures, note=note)


def _alone(number: int, small: str | None, *figures: float) -> Row:
  """A row of Table 5: cross-attends without latent Transformers."""
  name = f'{number} cross-attends alone'
  return _costs(name, f'table5_{number}', small, *figures)


UNSHARED, SHARED = 'table7_not_shared', 'table7_shared'
MISPRINT = (
  'M parameters is a misprint in the paper: the same model interleaved, in its'
  ' next row, has 42.1'
)
RESNET, VIT, TRANSFORMER, PERCEIVER, LEARNED = _scores(
  'top-1 %',
  ('ResNet-50 (FF)', 'resnet50', 'table2_resnet', 73.5),
  ('ViT-B/16 (FF)', 'vit_b16', 'table2_vit', 76.7),
  ('Transformer 64x64 (FF)', 'transformer64', 'table2_transformer', 57.0),
  ('Perceiver (FF)', '', 'table2_perceiver', 78.0),
  ('Perceiver (learned pos.)', 'learned', 'table2_learned', 70.9),
)
TABLES = {
  1: Table(
    'imagenet',
    (
      *_scores(
        'top-1 %',
        ('ResNet-50', None, None, 77.6),
        ('ViT-B/16', None, None, 77.9),
      ),
      _widened(RESNET, 25.6, 7 * 7 * 64),
      _widened(VIT, 86.6, 16 * 16 * 768),
      TRANSFORMER,
      PERCEIVER,
    ),
  ),
  2: Table(
    'imagenet',
    (
      *(RESNET, _permuted(RESNET, 39.4)),
      *(VIT, _permuted(VIT, 61.7)),
      *(TRANSFORMER, _permuted(TRANSFORMER, 57.0)),
      *(PERCEIVER, _permuted(PERCEIVER, 78.0)),
      *(LEARNED, _permuted(LEARNED, 70.9)),
    ),
  ),
  3: Table(
    'audioset',
    _scores(
      'mAP',
      ('raw audio', 'raw', 'table3_raw', 38.3),
      ('  video', 'video', 'table3_video', 25.8),
      ('  A+V', '', 'table3_av_raw', 43.5),
      ('mel spectrogram', 'mel', 'table3_mel', 38.4),
      ('  video', 'video', 'table3_video', 25.8),
      ('  A+V', 'av_mel', 'table3_av_mel', 43.2),
      ('mel, tuned: A+V', 'av_mel_tuned', 'table3_av_mel_tuned', 44.2),
      # The text has these two.
      (
        'raw A+V, no video drop.',
        'av_raw_no_video_dropout',
        'table3_av_raw_no_video_dropout',
        39.7,
      ),
      (
        'mel A+V, no video drop.',
        'av_mel_no_video_dropout',
        'table3_av_mel_no_video_dropout',
        39.9,
      ),
    ),
  ),
  # The best score on the test set, as the paper picks it.
  4: Table(
    'modelnet40',
    _scores(
      'best top-1 %',
      ('PointNet++', None, None, 91.9),
      ('ResNet-50 (FF)', 'resnet50', 'table4_resnet', 66.3),
      ('ViT-B patch 2 (FF)', 'vit_b_patch2', 'table4_vit_patch2', 78.9),
      ('ViT-B patch 4 (FF)', 'vit_b_patch4', 'table4_vit_patch4', 73.4),
      ('ViT-B patch 8 (FF)', 'vit_b_patch8', 'table4_vit_patch8', 65.3),
      ('ViT-B patch 16 (FF)', 'vit_b_patch16', 'table4_vit_patch16', 59.6),
      ('Transformer 44x44', 'transformer44', 'table4_transformer', 82.1),
      ('Perceiver', '', 'table4_perceiver', 85.7),
    ),
  ),
  5: Table(
    'imagenet',
    (
      Row('2 cross-attends alone', None, 'table5_2', {}),
      _alone(4, 'table5_4', 173.1, 12.7, 39.4),
      _alone(8, 'table5_8', 346.1, 23.8, 45.3),
      _alone(12, None, 519.2, 34.9),  # Out of memory in the paper.
    ),
  ),
  # A small Perceiver has four latent Transformers instead of eight: with four
  # cross-attends it stands for both the paper's four and its eight.
  6: Table(
    'imagenet',
    (
      _placed('1 at start', None, 404.3, 41.1, 76.7, note=MISPRINT),
      _placed('1 interleaved', 'table6_1_interleaved', 404.3, 42.1, 76.7),
      _placed('2 at start', 'table6_2_at_start', 447.6, 44.9, 76.7),
      _placed('2 interleaved', 'table6_2_interleaved', 447.6, 44.9, 76.5),
      _placed('4 at start', 'table6_4_at_start', 534.1, 44.9, 75.9),
      _placed('4 interleaved', 'table2_perceiver', 534.1, 44.9, 76.5),
      _placed('8 at start', 'table6_4_at_start', 707.2, 44.9, 73.7),
      _placed('8 interleaved', 'table2_perceiver', 707.2, 44.9, 78.0),
    ),
  ),
  7: Table(
    'imagenet',
    (
      _costs(
        'no weight sharing', UNSHARED, UNSHARED, 707.2, 326.2, 72.9, train=87.7
      ),
      _costs('weight sharing', '', SHARED, 707.2, 44.9, 78.0, train=79.5),
    ),
  ),
}


def _panel(
  variant: str, values: tuple[float, ...], common: tuple[float, str]
) -> dict[float, str]:
  """The small variant of each value; a figure's panels have one in common."""
  return dict(sorted([*((x, variant.format(x)) for x in values), common]))


# The paper has plots alone, without figures.
COMMON = {'5': 'fig5_not_shared', '6': 'table2_perceiver'}
FIGURES = {
  '5': {
    'latents': _panel('fig5_latents_{}', (8, 32), (16, COMMON['5'])),
    'latent channels': _panel('fig5_channels_{}', (32, 128), (64, COMMON['5'])),
    'self-attends per block': _panel(
      'fig5_self_attends_{}', (4,), (1, COMMON['5'])
    ),
    'cross-attends': _panel('fig5_cross_attends_{}', (1,), (4, COMMON['5'])),
  },
  '6': {
    'init scale of the latents': _panel(
      'fig6_init_scale_{}', (1.0,), (0.02, COMMON['6'])
    ),
    'bands': _panel('fig6_bands_{}', (2,), (8, COMMON['6'])),
    'maximum resolution': _panel(
      'fig6_max_resolution_{}', (7,), (28, COMMON['6'])
    ),
  },
}

# Where a small variant stands for several rows, the last: eight cross-attends.
SCORES = {row.small: row.score for t in TABLES.values() for row in t.rows}
