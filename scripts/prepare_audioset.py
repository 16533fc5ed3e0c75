"""Prepares AudioSet for training, once, from clips and the official CSVs.

  python -m scripts.prepare_audioset --clips=clips --csv=csv --data_dir=data

Clips (mp4, mkv, webm, wav; in folders too) are named <video id> or
<video id>_<start>. A file is the clip of its row in the CSVs or the whole
video, of which the clip is cut out; one of another length is skipped. The CSVs
are class_labels_indices.csv and what there is of balanced_train_segments.csv,
unbalanced_train_segments.csv and eval_segments.csv. What is skipped is named in
report.csv. Interrupted, it goes on where it was.

Machines that share the directories can take a share each, at the same time or
not, with --shard=0/16 to --shard=15/16. The same command without --shard is the
last step, on any of them: it does what is missing, and checks.
"""

import os
import re

from absl import app, flags

from experiments import path_flags
from scripts.shared import command


def shard(text: str | None) -> tuple[int, int] | None:
  """Of the flag: which of how many; raises ValueError if there is no such."""
  if text is None:
    return None
  match = re.fullmatch(r'(\d{1,9})/(\d{1,9})', text)
  if match is None or int(match[1]) >= int(match[2]):
    raise ValueError(
      f'--shard={text} is none: of 16 shards they are 0/16 to 15/16.'
    )
  return int(match[1]), int(match[2])


def main(argv: list[str]) -> None:
  del argv
  with command.running(
    'experiments,audioset',
    interrupted='Interrupted. The same command goes on where it was.',
  ):
    from experiments.benchmarks.audioset import preparation

    print(
      preparation.prepare(
        _CLIPS.value,
        _CSV.value,
        _DATA_DIR.value,
        _PROCESSES.value,
        shard=shard(_SHARD.value),
        clips_per_file=_CLIPS_PER_FILE.value or preparation.CLIPS_PER_FILE,
      )
    )


def _num_cpus() -> int:
  """That this process may use: of a cluster's machine perhaps not all."""
  if hasattr(os, 'sched_getaffinity'):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


if __name__ == '__main__':
  _CLIPS = path_flags.define_path(
    'clips', None, 'Directory with the clips.', required=True
  )
  _CSV = path_flags.define_path(
    'csv', None, 'Directory with the CSVs.', required=True
  )
  _DATA_DIR = path_flags.define_path(
    'data_dir', None, "To write to; the config's data.dir.", required=True
  )
  _PROCESSES = flags.DEFINE_integer(
    'processes', _num_cpus(), 'That decode.', lower_bound=1
  )
  _SHARD = flags.DEFINE_string(
    'shard', None, 'i/n: only the share of the i-th of n machines, from 0 on.'
  )
  _CLIPS_PER_FILE = flags.DEFINE_integer(
    'clips_per_file',
    None,
    'At most; whole files are shared out. As it comes: 512, about 2.5 GB.',
    lower_bound=1,
  )
  app.run(main)
