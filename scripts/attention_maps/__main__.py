r"""Draws where latents look: the paper's attention maps (Figs. 3, 7 to 31).

  python -m scripts.attention_maps --workdir=runs/digits --examples=0,1,2
  python -m scripts.attention_maps --workdir=runs/imagenet cat.jpg dog.jpg \
      --latents=0-15 --cross_attends=first,last --show=logits,mean --arrays

The inputs are files, or examples of the evaluation split. For each segment of
an input (an image, or video and sound) it writes a PNG with the input and, per
cross-attend, a map of each latent: the logits before the softmax, coloured from
the map's minimum to its maximum.
"""

import re

from absl import app, flags

from experiments import path_flags
from scripts import attention_maps
from scripts.shared import command, mapper

_WORKDIR = path_flags.define_path(
  'workdir', None, 'The directory of the run.', required=True
)
_EXAMPLES = flags.DEFINE_list(
  'examples', [], 'Indices in the evaluation split.'
)
_OUTPUT = path_flags.define_path(
  'output',
  None,
  "The folder to write to; by default 'attention_maps' in the workdir.",
)
_DATA_DIR = path_flags.define_path(
  'data_dir', None, "Where the run's data is, if it has moved."
)
_CHECKPOINT = flags.DEFINE_enum(
  'checkpoint',
  None,
  ['latest', 'best'],
  "By default, the choice of the run's config.",
)
_CROSS_ATTENDS = flags.DEFINE_list(
  'cross_attends',
  list(mapper.DEFAULT_CROSS_ATTENDS),
  'first, second, last or numbers from 1.',
)
_LATENTS = flags.DEFINE_string(
  'latents', None, f'Such as 0-3,8; by default the first {mapper.NUM_LATENTS}.'
)
_SHOW = flags.DEFINE_list(
  'show',
  ['logits'],
  f'Some of {", ".join(mapper.QUANTITIES)}: before the softmax, after it, and'
  ' its mean over all latents, laid over the input.',
)
_WINDOW = flags.DEFINE_integer(
  'window',
  0,
  'Which window of a clip, if evaluation averages several.',
  lower_bound=0,
)
_ARRAYS = flags.DEFINE_boolean('arrays', False, 'Write .npz files, too.')


@command.running()
def main(argv: list[str]) -> None:
  files, examples = argv[1:], _EXAMPLES.value
  if not files and not examples:
    examples = ['0']
  if bad := [x for x in examples if not re.fullmatch(r'\d{1,9}', x)]:
    raise ValueError(f'--examples={bad[0]} is no number.')
  paths = attention_maps.write(
    _WORKDIR.value,
    files=files,
    examples=[int(x) for x in examples],
    output=_OUTPUT.value,
    data_dir=_DATA_DIR.value,
    checkpoint=_CHECKPOINT.value,
    window=_WINDOW.value,
    arrays=_ARRAYS.value,
    cross_attends=_CROSS_ATTENDS.value,
    latents=attention_maps.parse_latents(_LATENTS.value),
    quantities=_SHOW.value,
  )
  for path in paths:
    print(path)


if __name__ == '__main__':
  app.run(main)
