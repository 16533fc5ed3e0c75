"""Trains or evaluates what a config describes.

python -m experiments.run --config=configs/digits.py --workdir=runs/digits
"""

import signal
import socket
import sys

from absl import app, flags
import jax
from ml_collections import config_flags

from experiments import (
  compilation_cache,
  evaluate,
  experiment,
  host_memory,
  logs,
  preemption,
  saved,
  train,
)

_CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'What to run: configs/NAME.py or configs/NAME.py:VARIANT.'
)
_WORKDIR = flags.DEFINE_string(
  'workdir',
  None,
  'Where checkpoints and metrics go; the same for all hosts.',
  required=True,
)
_MODE = flags.DEFINE_enum(
  'mode', 'train', ['train', 'eval'], 'Train, or evaluate a checkpoint.'
)


def initialize_distributed() -> None:
  """Joins the processes that the cluster's environment tells of.

  A single process joins too, by itself: only so does SIGTERM end a run with a
  checkpoint instead of killing it.
  """
  try:
    jax.distributed.initialize()
  except (ValueError, RuntimeError):  # No cluster found.
    with socket.socket() as s:
      s.bind(('127.0.0.1', 0))
      address = f'127.0.0.1:{s.getsockname()[1]}'
    jax.distributed.initialize(address, 1, 0, coordinator_bind_address=address)


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f'Unknown arguments: {argv[1:]}')
  logs.initialize()
  # Grain leaves the batches that workers had ready to Python's tracker, which
  # frees them but warns of a leak.
  sys.warnoptions.append('ignore:resource_tracker')
  initialize_distributed()
  try:
    run = experiment.create(_CONFIG.value)
    compilation_cache.use(_WORKDIR.value, run.config.train.compilation_cache)
    if _MODE.value == 'eval':
      metrics = saved.evaluate_checkpoint(run, _WORKDIR.value)
    else:
      metrics = train.train(run, _WORKDIR.value)
  except preemption.PreemptedError as error:
    print(error, file=sys.stderr)
    sys.exit(128 + signal.SIGTERM)
  except (ValueError, FloatingPointError, FileNotFoundError) as error:
    sys.exit(f'Error: {error}')
  if jax.process_index() == 0:
    for split in run.task.eval_splits:
      print(evaluate.summary(split, metrics[split]))


def _parse_flags(argv: list[str]) -> list[str]:
  """Parses flags and config; says in one line what is wrong with them."""
  flags.mark_flag_as_required('config')
  try:
    arguments = flags.FLAGS(argv)
    _ = _CONFIG.value.task  # A file that cannot be read fails only here.
    return arguments
  except (AttributeError, KeyError) as error:
    # The nearest key stands behind the quoted line break of a KeyError.
    hint = str(error).replace('\\n', ' ').replace('\\', '').replace("'", '')
    sys.exit(f'Error: the config has no such key: {hint}')
  except (flags.Error, OSError) as error:
    # What a config file raised is the last line of a traceback.
    sys.exit(f'Error: {str(error).strip().splitlines()[-1].strip()}')


if __name__ == '__main__':
  host_memory.restart_with_large_pages()
  app.run(main, flags_parser=_parse_flags)
