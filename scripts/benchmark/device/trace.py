"""A step's time by kernels of the device, from the profiler's trace."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
import gzip
import json
from pathlib import Path
import tempfile
from typing import Any

import jax

STEPS = 3
MOST = 30  # Kernels that are reported.


def by_kernel(step: Callable[[], None]) -> Iterator[dict[str, Any]]:
  """Runs a step a few times; yields the time of each kernel, longest first."""
  with tempfile.TemporaryDirectory() as folder:
    with jax.profiler.trace(folder, create_perfetto_trace=True):
      for _ in range(STEPS):
        step()
    (path,) = Path(folder).rglob('perfetto_trace.json.gz')
    with gzip.open(path, 'rt') as file:
      trace = json.load(file)
  yield from summary(trace['traceEvents'])


def summary(events: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
  """Sums up a trace of `STEPS` steps; says so if no device is in it."""
  names = {
    (e['name'], e['pid'], e.get('tid')): e['args']['name']
    for e in events
    if e.get('name') in ('process_name', 'thread_name')
  }
  processes = {p: x for (kind, p, _), x in names.items() if 'process' in kind}
  devices = {p for p, x in processes.items() if x.startswith('/device:')}
  total: Counter[str] = Counter()
  for event in events:
    if event.get('ph') != 'X' or event['pid'] not in devices:
      continue
    line = names.get(('thread_name', event['pid'], event['tid']), '')
    # Other lines of a device show the same time again, by module or step.
    if line.startswith(('Stream', 'XLA Ops')):
      total[event['name']] += event.get('dur', 0)  # Microseconds.
  if not total:
    yield {'no_kernel_on': sorted(processes.values())}
  for name, duration in total.most_common(MOST):
    yield {
      'kernel': name[:90],
      'ms_a_step': duration / STEPS / 1e3,
      'share': duration / total.total(),
    }
