"""Trains or evaluates what a config describes.

python -m experiments.run --config=configs/digits.py --workdir=runs/digits
"""

from experiments import host_memory

if __name__ == '__main__':
  # Before the imports that take seconds, or they would be done twice.
  host_memory.restart_with_large_pages()

import contextlib
import os
import signal
import sys
from types import FrameType
from typing import Any

from absl import app, flags
import jax

from experiments import (
  compilation_cache,
  evaluate,
  experiment,
  logs,
  path_flags,
  preemption,
  processes,
  saved,
  telemetry,
  train,
  watchdog,
)

_CONFIG = path_flags.define_config(
  'config', None, 'What to run: configs/NAME.py or configs/NAME.py:VARIANT.'
)
_WORKDIR = path_flags.define_path(
  'workdir',
  None,
  'Where checkpoints and metrics go; the same for all hosts.',
  required=True,
)
_MODE = flags.DEFINE_enum(
  'mode', 'train', ['train', 'eval'], 'Train, or evaluate a checkpoint.'
)
_COORDINATOR = flags.DEFINE_string(
  'coordinator',
  None,
  'HOST:PORT of process 0, if no scheduler tells the processes about each'
  ' other; the same for all.',
)
_NUM_PROCESSES = flags.DEFINE_integer(
  'num_processes', None, 'Number of processes, with --coordinator.', 1
)
_PROCESS_ID = flags.DEFINE_integer(
  'process_id', None, 'Index of this process, from 0, with --coordinator.', 0
)


@flags.multi_flags_validator(
  ['coordinator', 'num_processes', 'process_id'],
  '--coordinator=HOST:PORT, --num_processes and --process_id go together.',
)
def _are_complete(values: dict[str, Any]) -> bool:
  if set(values.values()) == {None}:
    return True
  if None in values.values():
    return False
  host, _, port = values['coordinator'].rpartition(':')
  if not (host and port.isdecimal() and 0 < int(port) < 2**16):
    raise flags.ValidationError(
      f'--coordinator={values["coordinator"]} is not HOST:PORT.'
    )
  if values['process_id'] >= values['num_processes']:
    raise flags.ValidationError(
      f'--process_id={values["process_id"]} is not below'
      f' --num_processes={values["num_processes"]}.'
    )
  return True


def _treat_as_sigterm(number: int, frame: FrameType | None) -> None:
  """Treats Ctrl-C as SIGTERM; a second one ends the run at once."""
  del frame
  print('Stopping with a checkpoint. Ctrl-C again: at once.', file=sys.stderr)
  signal.signal(number, signal.default_int_handler)
  os.kill(os.getpid(), signal.SIGTERM)


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f'Unknown arguments: {argv[1:]}')
  logs.initialize()
  settings = _CONFIG.value.train
  limits = watchdog.Limits(
    settings.watchdog_seconds,
    settings.watchdog_compile_seconds,
    settings.watchdog_restore_seconds,
  )

  def on_end(reason: str) -> None:
    if _MODE.value == 'train':
      telemetry.record_ending(_WORKDIR.value, reason)

  with watchdog.watching(limits, on_end):
    try:
      _run()
    finally:
      watchdog.begin('the end')
      with contextlib.suppress(RuntimeError):  # The others may have failed.
        jax.distributed.shutdown()  # Waits for the other processes.


def _run() -> None:
  try:
    processes.join(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    signal.signal(signal.SIGINT, _treat_as_sigterm)
    run = experiment.create(_CONFIG.value)
    compilation_cache.use(_WORKDIR.value, run.config.train.compilation_cache)
    if _MODE.value == 'eval':
      metrics = saved.evaluate_checkpoint(run, _WORKDIR.value)
    else:
      metrics = train.train(run, _WORKDIR.value)
  except preemption.PreemptedError as error:
    print(error, file=sys.stderr)
    sys.exit(128 + signal.SIGTERM)
  except evaluate.UnwrittenError as error:
    _print_scores(run, error.metrics)
    print(f'Error: {error}', file=sys.stderr, flush=True)
    sys.exit(1)
  except (ValueError, FloatingPointError, OSError) as error:
    # Flushed: if one of several processes fails, JAX may soon kill this one.
    print(f'Error: {error}', file=sys.stderr, flush=True)
    sys.exit(1)
  _print_scores(run, metrics)


def _print_scores(
  run: experiment.Experiment, metrics: evaluate.SplitMetrics
) -> None:
  if jax.process_index() == 0:
    for split in run.task.eval_splits:
      print(evaluate.summary(split, metrics[split]), flush=True)


def parse_flags(argv: list[str]) -> list[str]:
  """Parses flags and config; exits with one line if they are wrong."""
  flags.mark_flag_as_required('config')
  try:
    arguments = flags.FLAGS(argv)
    _ = _CONFIG.value.task  # A file that cannot be read fails only here.
    return arguments
  except (AttributeError, KeyError) as error:
    # A KeyError names the nearest key after a quoted line break.
    hint = str(error).replace('\\n', ' ').replace('\\', '').replace("'", '')
    sys.exit(f'Error: the config has no such key: {hint}')
  except (flags.Error, OSError) as error:
    # The last line of a traceback is the error that a config file raised.
    sys.exit(f'Error: {str(error).strip().splitlines()[-1].strip()}')


if __name__ == '__main__':
  app.run(main, flags_parser=parse_flags)
