"""Pictures of a run's worst mistakes and of its attention maps."""

import base64
from collections.abc import Sequence
import dataclasses

import numpy as np

from experiments import saved
from experiments.display import View
from experiments.experiment import Experiment
from experiments.history import History
from scripts.shared import drawing
from scripts.shared.mapper import Mapper, SegmentMaps

SIZE = 128  # Height of an example, in pixels.
MAP_SIZE = {'points': 110}  # Other maps are SMALL.
SMALL = 64
LATENTS = 8  # How many latents' maps are shown.
FRAMES = 4  # How many frames of a video are shown.


@dataclasses.dataclass(frozen=True)
class Picture:
  """An image in the page."""

  data: str  # The PNG as a data: URI.
  alt: str
  width: int
  height: int
  caption: str = ''


@dataclasses.dataclass(frozen=True)
class Mistake:
  """An example with a high loss, and the model's guesses."""

  pictures: list[Picture]
  truth: str
  guesses: list[tuple[str, float]]  # Classes with scores, the best first.
  loss: float
  record: int


def mistakes(
  run: Experiment, history: History, names: Sequence[str], count: int
) -> list[Mistake]:
  """Returns the examples with the highest loss, without correct ones.

  Raises:
    DataNotFoundError: if the data is gone.
    ValueError: if it is not the data of the evaluation.
  """
  split, display = run.task.eval_splits[0], run.task.display
  predictions = history.predictions[split]
  losses = np.nan_to_num(predictions['loss'], nan=np.inf)
  if 'label' in predictions:
    wrong = predictions['classes'][:, 0] != predictions['label']
    losses = np.where(wrong, losses, -np.inf)
  order = [i for i in np.argsort(-losses)[:count] if losses[i] > -np.inf]
  source = run.source(split)
  found = []
  for i in order:
    record = int(predictions['record'][i])
    if record >= len(source):
      raise ValueError(
        f'The split {split!r} has {len(source)} examples, so there is no'
        f' example {record}: is this the data of the run?'
      )
    example = run.task.eval_example(source[record])
    truth = display.truth(example, names)
    best = zip(predictions['classes'][i], predictions['scores'][i], strict=True)
    guesses = [(names[int(c)], float(score)) for c, score in best][:3]
    views = display.views(display.window(example, 0))
    pictures = [
      _picture(drawing.picture(v, SIZE, _frames(v)), f'{v.kind}: {truth}')
      for v in views
    ]
    loss = float(predictions['loss'][i])
    found.append(Mistake(pictures, truth, guesses, loss, record))
  return found


def maps(
  run: Experiment, workdir: str, names: Sequence[str], count: int
) -> list[tuple[str, list[list[Picture]]]]:
  """Returns the true class and each segment's attention maps of examples.

  Raises:
    ValueError: if the model has no cross-attention.
    FileNotFoundError: if there is no checkpoint or no data.
  """
  source, display = run.source(run.task.eval_splits[0]), run.task.display
  mapper = Mapper(
    run,
    saved.restore(run, workdir),
    latents=range(min(LATENTS, run.config.model.num_latents)),
    quantities=('mean', 'logits'),
  )
  found = []
  for i in range(min(count, len(source))):
    example = run.task.eval_example(source[i])
    truth = display.truth(example, names)
    segments = mapper(display.window(example, 0))
    found.append((truth, [_maps(segment, truth) for segment in segments]))
  return found


def _maps(segment: SegmentMaps, truth: str) -> list[Picture]:
  view = segment.view
  frames = _frames(view)
  what = f'{view.kind} of {truth}'
  count = next(iter(segment.maps['logits'].values())).shape[1]
  pixels = drawing.picture(view, SIZE, frames)
  pictures = [_picture(pixels, f'Input: {what}', f'input: {view.kind}')]
  drawn = segment.drawn(SIZE, MAP_SIZE.get(view.kind, SMALL), frames)
  for quantity, where, pixels in sorted(drawn, key=lambda x: x[0] != 'mean'):
    if quantity == 'mean':
      alt = f'Mean attention of {where} over the {what}'
      pictures.append(_picture(pixels, alt, f'{where}, mean attention'))
    else:
      alt = f'Logits of {count} latents in {where} over the {what}'
      caption = f'{where}, latents 0 to {count - 1}'
      pictures.append(_picture(pixels, alt, caption))
  return pictures


def _frames(view: View) -> drawing.Frames:
  if view.kind != 'video':
    return drawing.ALL
  last = len(view.content) - 1
  return sorted({round(x) for x in np.linspace(0, last, FRAMES)})


def _picture(pixels: np.ndarray, alt: str, caption: str = '') -> Picture:
  data = base64.b64encode(drawing.png(pixels)).decode()
  height, width = pixels.shape[:2]
  return Picture(f'data:image/png;base64,{data}', alt, width, height, caption)
