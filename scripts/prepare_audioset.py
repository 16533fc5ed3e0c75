"""Prepares AudioSet for training, once, from clips and the official CSVs.

  python -m scripts.prepare_audioset --clips=clips --csv=csv --data_dir=data

Clips (mp4, mkv, webm, mov, avi, ts, wav, flac, opus, m4a, ogg, mp3; subfolders
are searched) are named <video id>, <video id>_<start> or
<video id>_<start>_<end>, in seconds or milliseconds, with or without a Y before
it. A file has either the clip of its row in the CSVs or the whole video, from
which the clip is cut; files of another length are skipped. The CSVs are
class_labels_indices.csv and those that exist of balanced_train_segments.csv,
unbalanced_train_segments.csv and eval_segments.csv. report.csv names every file
that is not prepared, and why. If interrupted, the same command continues.

Machines that share the directories can each prepare a shard, at the same time
or not, with --shard=0/16 to --shard=15/16. As the last step, run the command
without --shard on one of them: it adds what is missing, and checks everything.
"""

import os
import re

from absl import app, flags

from experiments import path_flags
from scripts.shared import command


def shard(text: str | None) -> tuple[int, int] | None:
  """Parses --shard as (index, count). Raises ValueError for a bad one."""
  if text is None:
    return None
  match = re.fullmatch(r'(\d{1,9})/(\d{1,9})', text)
  if match is None or int(match[1]) >= int(match[2]):
    raise ValueError(
      f'--shard={text} is not a shard: 16 shards are 0/16 to 15/16.'
    )
  return int(match[1]), int(match[2])


@command.running(
  'experiments,audioset',
  interrupted='Interrupted. The same command continues.',
)
def main(argv: list[str]) -> None:
  del argv
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
  """Returns how many CPUs this process may use; a cluster may limit them."""
  if hasattr(os, 'sched_getaffinity'):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


if __name__ == '__main__':
  _CLIPS = path_flags.define_path(
    'clips', None, 'The directory with the clips.', required=True
  )
  _CSV = path_flags.define_path(
    'csv', None, 'The directory with the CSVs.', required=True
  )
  _DATA_DIR = path_flags.define_path(
    'data_dir',
    None,
    "The folder to write; the config's data.dir.",
    required=True,
  )
  _PROCESSES = flags.DEFINE_integer(
    'processes', _num_cpus(), 'How many processes decode.', lower_bound=1
  )
  _SHARD = flags.DEFINE_string('shard', None, 'i/n: only shard i of n, from 0.')
  _CLIPS_PER_FILE = flags.DEFINE_integer(
    'clips_per_file',
    None,
    'The most clips per file; shards are whole files. Default: 512, 2.5 GB.',
    lower_bound=1,
  )
  app.run(main)
