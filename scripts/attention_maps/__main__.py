r"""Draws what latents look at: the paper's attention maps (Figs. 3, 7 to 31).

  python -m scripts.attention_maps --workdir=runs/digits --examples=0,1,2
  python -m scripts.attention_maps --workdir=runs/imagenet cat.jpg dog.jpg \
      --latents=0-15 --cross_attends=first,last --show=logits,mean --arrays

The examples are of the evaluation split, or files. Of each segment of the input
(an image, or video and sound) there is a PNG with the input and, for each of
the cross-attends, a map for each of the latents: the logits before the softmax,
each map in the colours from its least to its most.
"""

import re

from absl import app, flags

from experiments import path_flags
from scripts import attention_maps
from scripts.shared import command, mapper

_WORKDIR = path_flags.define_path('workdir', None, 'Of the run.', required=True)
_EXAMPLES = flags.DEFINE_list(
  'examples', [], 'Indices in the evaluation split.'
)
_OUTPUT = path_flags.define_path(
  'output', None, "Folder to write to; 'attention_maps' in the workdir."
)
_DATA_DIR = path_flags.define_path(
  'data_dir', None, "Where the run's data is here, if not where it was."
)
_CHECKPOINT = flags.DEFINE_enum(
  'checkpoint', None, ['latest', 'best'], "If not as the run's config says."
)
_CROSS_ATTENDS = flags.DEFINE_list(
  'cross_attends',
  list(mapper.DEFAULT_CROSS_ATTENDS),
  'first, second, last or numbers from 1 on.',
)
_LATENTS = flags.DEFINE_string(
  'latents', None, f'Such as 0-3,8; the first {mapper.NUM_LATENTS} by default.'
)
_SHOW = flags.DEFINE_list(
  'show',
  ['logits'],
  f'Some of {", ".join(mapper.QUANTITIES)}: before the softmax, after it, and'
  ' its mean over all latents, laid over the input.',
)
_WINDOW = flags.DEFINE_integer(
  'window', 0, 'Of a clip, where evaluation averages several.', lower_bound=0
)
_ARRAYS = flags.DEFINE_boolean('arrays', False, 'Write .npz files, too.')


def main(argv: list[str]) -> None:
  with command.running():
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
