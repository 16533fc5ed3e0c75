"""Prepares AudioSet for training, once, from clips and the official CSVs.

  python -m scripts.prepare_audioset --clips=clips --csv=csv --data_dir=data

Clips (mp4, mkv, webm, wav; in folders too) are named <video id> or
<video id>_<start>. The CSVs are class_labels_indices.csv and what there is of
balanced_train_segments.csv, unbalanced_train_segments.csv and
eval_segments.csv. What cannot be read is skipped; report.csv names it.
Interrupted, it goes on where it was.
"""

import os

from absl import app, flags

from scripts import command


def main(argv: list[str]) -> None:
  del argv
  with command.running(
    'experiments,audioset',
    interrupted='Interrupted. The same command goes on where it was.',
  ):
    from experiments.benchmarks.audioset import preparation

    print(
      preparation.prepare(
        _CLIPS.value, _CSV.value, _DATA_DIR.value, _PROCESSES.value
      )
    )


if __name__ == '__main__':
  _CLIPS = flags.DEFINE_string(
    'clips', None, 'Directory with the clips.', required=True
  )
  _CSV = flags.DEFINE_string(
    'csv', None, 'Directory with the CSVs.', required=True
  )
  _DATA_DIR = flags.DEFINE_string(
    'data_dir', None, "To write to; the config's data.dir.", required=True
  )
  _PROCESSES = flags.DEFINE_integer(
    'processes', os.cpu_count() or 1, 'That decode.', lower_bound=1
  )
  app.run(main)
