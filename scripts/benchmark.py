r"""Times a config's model in the forms of its cross-attention, side by side.

  python -m scripts.benchmark --attention=plain,factored --mode=forward,train
  python -m scripts.benchmark --part=cross_attention --mode=forward,train
  python -m scripts.benchmark --mode=train --peers
  python -m scripts.benchmark --config=configs/fashion_mnist.py \
      --batch_size=64 --attention=auto --peers

Each contender has a process of its own, whose peak memory is then its own. On a
CPU they take turns, A B A B …, so that a drift of the machine's speed meets all
alike, and a turn is two steps, of which the second counts; on an accelerator
they run one after the other, because each needs its memory. The input is
random.
"""

from collections.abc import Callable
import dataclasses
import datetime
import json
import math
import multiprocessing
import os
import resource
import statistics
import sys
import time
from typing import Any

from absl import app, flags
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np

from experiments import (
  experiment,
  host_memory,
  models,
  path_flags,
  sharding,
  storage,
  telemetry,
  train_step,
)
from perceiver import cost
from perceiver.ops import cross_attention
from scripts import peers
from scripts.shared import command

_CONFIG = path_flags.define_config(
  'config', 'configs/imagenet.py', 'Whose model to time.'
)
_ATTENTION = flags.DEFINE_list(
  'attention', ['plain', 'factored'], 'Values of model.attention.'
)
_MODE = flags.DEFINE_list('mode', ['train'], "Of 'forward' and 'train'.")
_PART = flags.DEFINE_enum(
  'part',
  'model',
  ['model', 'cross_attention'],
  'The whole model; or one cross-attention without its dense block.',
)
_BATCH_SIZE = flags.DEFINE_integer('batch_size', 1, 'Examples in a step.')
_DTYPE = flags.DEFINE_enum(
  'dtype', 'float32', ['float32', 'bfloat16'], 'To compute in.'
)
_REPETITIONS = flags.DEFINE_integer('repetitions', 5, 'Timed steps of each.')
_PEERS = flags.DEFINE_bool(
  'peers', False, 'Also time other implementations (extra [peers]).'
)
_JSON = path_flags.define_path('json', None, 'File to write the results to.')


@dataclasses.dataclass(frozen=True)
class Contender:
  """What a process is to time."""

  name: str
  mode: str
  batch_size: int
  part: str
  config: dict[str, Any]  # Ours; with the form of attention, if it is one.
  peer: bool = False


@dataclasses.dataclass(frozen=True)
class Prepared:
  """A step, ready to be timed."""

  step: Callable[[], None]  # Returns when it is done.
  parameters: int
  flops: float  # Of a step, as the paper counts; a backward pass counts two.
  compile_s: float
  compiler_bytes: int | None  # What the compiler plans to hold at once.
  note: str = ''


def _random(spec: Any) -> Any:
  """Arrays for a tree of shapes; integers are small enough to be labels."""
  rng = np.random.default_rng(0)

  def draw(x):
    if x.dtype == jnp.bool_:
      return np.ones(x.shape, bool)
    if jnp.issubdtype(x.dtype, jnp.integer):
      return rng.integers(10, size=x.shape).astype(x.dtype)
    return rng.normal(size=x.shape).astype(x.dtype)

  return jax.tree.map(draw, spec)


def _compile(function: Any, *arguments: Any) -> tuple[Any, float, int]:
  start = time.perf_counter()
  compiled = function.lower(*arguments).compile()
  memory = compiled.memory_analysis()
  planned = (
    memory.temp_size_in_bytes
    + memory.argument_size_in_bytes
    + memory.output_size_in_bytes
    - memory.alias_size_in_bytes
  )
  return compiled, time.perf_counter() - start, planned


def _on_one_device(config: Any) -> experiment.Experiment:
  return experiment.create(config, sharding.make_mesh(1, jax.devices()[:1]))


def _prepare_model(contender: Contender, config: Any) -> Prepared:
  run = _on_one_device(config)
  batch = jax.device_put(_random(run.task.batch_spec(contender.batch_size)))
  state = jax.jit(run.init_state)(jax.random.key(0))
  flops = contender.batch_size * models.forward_flops(config)
  parameters = cost.count_parameters(state.params)
  if contender.mode == 'train':
    compiled, seconds, planned = _compile(
      train_step.make_train_step(run), state, batch
    )
    carried = {'state': state}  # Donated to each step.

    def step():
      carried['state'], metrics = compiled(carried['state'], batch)
      jax.block_until_ready((carried['state'], metrics))

    return Prepared(step, parameters, 3 * flops, seconds, planned)

  def forward(params, batch):
    return run.forward.apply(params, state.model_state, None, batch, False)[0]

  compiled, seconds, planned = _compile(jax.jit(forward), state.params, batch)
  step = lambda: jax.block_until_ready(compiled(state.params, batch))
  return Prepared(step, parameters, flops, seconds, planned)


def _prepare_cross_attention(contender: Contender, config: Any) -> Prepared:
  """One cross-attention, from queries and byte array to attended values."""
  run = _on_one_device(config)
  model, dtype = config.model, jnp.dtype(config.model.compute_dtype)
  _, shapes = models.model_shapes(config)
  c, m = shapes.num_channels, shapes.num_elements
  heads = model.cross_attend_heads
  channels = model.cross_attend_channels or min(c, model.latent_channels)
  rows = (contender.batch_size, model.num_latents, heads, channels // heads)
  shaped = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.float32)
  arrays = _random(
    {
      'query': shaped(*rows),
      'scale': shaped(c),
      'offset': shaped(c),
      'key_w': shaped(c, channels),
      'key_b': shaped(channels),
      'value_w': shaped(c, channels),
      'value_b': shaped(channels),
    }
  )
  batch = jax.device_put(_random(run.task.batch_spec(contender.batch_size)))
  arrays = jax.device_put(arrays)

  def forward(arrays, batch):
    inputs = models.byte_array(run.task, batch, run.mesh)
    method = cross_attention.choose(
      inputs,
      model.num_latents,
      heads,
      channels,
      form=model.attention,
      tile=model.attention_tile,
      use_kernel=model.attention_kernel,
      mesh=run.mesh,
    )
    query, *parameters = (
      arrays[name] for name in ('query', *cross_attention.Parameters._fields)
    )
    return cross_attention.cross_attend(
      query.astype(dtype),
      cross_attention.prepare(inputs, method, dtype),
      cross_attention.Parameters(*parameters),
    )

  flops = contender.batch_size * (
    cost.attention_flops(
      model.num_latents, model.latent_channels, m, c, channels, heads
    )
    # All but the products with the latents' own layers.
    - 2 * 2 * model.num_latents * model.latent_channels * channels
  )
  function = forward
  if contender.mode == 'train':
    flops *= 3
    function = jax.grad(lambda a, b: jnp.sum(jnp.square(forward(a, b))))
  compiled, seconds, planned = _compile(jax.jit(function), arrays, batch)
  step = lambda: jax.block_until_ready(compiled(arrays, batch))
  parameters = cost.count_parameters(arrays) - math.prod(rows)
  return Prepared(step, parameters, flops, seconds, planned)


def _work(contender: Contender, pipe: Any) -> None:
  """A contender's process: prepares, then times a step for each message."""
  if contender.peer:
    prepared = Prepared(
      **peers.prepare(
        contender.name,
        contender.mode,
        contender.batch_size,
        peers.size_of(ConfigDict(contender.config)),
      )
    )
    platform, device = 'cpu', ''
  else:
    prepare = {
      'model': _prepare_model,
      'cross_attention': _prepare_cross_attention,
    }[contender.part]
    prepared = prepare(contender, ConfigDict(contender.config))
    platform = jax.default_backend()
    device = jax.devices()[0].device_kind
  prepared.step()  # Not timed: caches, allocations.
  if platform == 'cpu':
    device = f'{os.cpu_count()}-core CPU'
  facts = {**vars(prepared), 'platform': platform, 'device': device}
  del facts['step']
  pipe.send(facts)
  while pipe.recv():
    # Not timed, for a step of training follows another: while a process waits
    # for its turn, caches and even the memory that it gave back go cold.
    prepared.step()
    start = time.perf_counter()
    prepared.step()
    pipe.send(time.perf_counter() - start)
  if platform == 'cpu':  # The process's peak; else the device's.
    pipe.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
  else:
    pipe.send(jax.devices()[0].memory_stats()['peak_bytes_in_use'])


class Worker:
  """A contender's process, seen from this one."""

  def __init__(self, contender: Contender):
    """Starts the process and waits until it is ready to be timed."""
    self.contender = contender
    self.times: list[float] = []
    context = multiprocessing.get_context('spawn')
    self._pipe, other = context.Pipe()
    self._process = context.Process(
      target=_work, args=(contender, other), daemon=True
    )
    self._process.start()
    other.close()
    self._facts = self._receive()
    self._peak_bytes = None

  def _receive(self) -> Any:
    try:
      return self._pipe.recv()
    except EOFError:
      self._process.join()
      raise ChildProcessError(
        f'{self.contender.name} ({self.contender.mode}) died with status'
        f' {self._process.exitcode}; -9 is a want of memory.'
      ) from None

  @property
  def shares_the_cpu(self) -> bool:
    return self._facts['platform'] == 'cpu'

  def run(self) -> None:
    self._pipe.send(True)
    self.times.append(self._receive())

  def finish(self) -> dict[str, Any]:
    """Ends the process and returns what is known of it."""
    self._pipe.send(False)
    peak_bytes = self._receive()
    self._process.join()
    median = statistics.median(self.times)
    return {
      'name': self.contender.name,
      'mode': self.contender.mode,
      'batch_size': self.contender.batch_size,
      **self._facts,
      'step_s': self.times,
      'median_s': median,
      'examples_per_s': self.contender.batch_size / median,
      'flops_per_s': self._facts['flops'] / median,
      'peak_bytes': peak_bytes,
    }


def measure(
  contenders: list[Contender], repetitions: int
) -> list[dict[str, Any]]:
  """Times all contenders, in turn where they share the CPU.

  Returns:
    For each contender its name, mode, batch_size and parameters; flops of a
    step in the paper's count; compile_s; step_s, all, and median_s;
    examples_per_s and flops_per_s; compiler_bytes, the peak that the compiler
    plans, and peak_bytes, the process's or the device's.
  """
  results, waiting = [], []
  for contender in contenders:
    worker = Worker(contender)
    if worker.shares_the_cpu:
      waiting.append(worker)
      continue
    for _ in range(repetitions):
      worker.run()
    results.append(worker.finish())
  for _ in range(repetitions):
    for worker in waiting:
      worker.run()
  return results + [worker.finish() for worker in waiting]


def _as_text(results: list[dict[str, Any]]) -> str:
  """A table; ratios are to the first row of the same mode."""
  lines = [
    f'{"":28}{"params":>8}{"compile":>9}{"step":>9}{"ratio":>7}'
    f'{"examples/s":>12}{"GFLOP/s":>9}{"planned":>9}{"peak":>9}{"ratio":>7}'
  ]
  first: dict[str, dict[str, Any]] = {}
  for r in results:
    base = first.setdefault(r['mode'], r)
    planned = r['compiler_bytes']
    lines.append(
      f'{r["mode"] + " " + r["name"]:28}{r["parameters"] / 1e6:7.1f}M'
      f'{r["compile_s"]:8.1f}s{r["median_s"]:8.3f}s'
      f'{base["median_s"] / r["median_s"]:7.2f}{r["examples_per_s"]:12.3f}'
      f'{r["flops_per_s"] / 1e9:9.0f}'
      + (f'{planned / 1e9:7.2f}GB' if planned else f'{"":>9}')
      + f'{r["peak_bytes"] / 1e9:7.2f}GB'
      f'{r["peak_bytes"] / base["peak_bytes"]:7.2f}'
      + (f'  {r["note"]}' if r['note'] else '')
    )
  return '\n'.join(lines)


def contenders_for(config: ConfigDict) -> list[Contender]:
  """What the flags ask for. Raises ValueError for what cannot be."""
  contenders = []
  for mode in _MODE.value:
    if mode not in ('forward', 'train'):
      raise ValueError(f"--mode={mode} is neither 'forward' nor 'train'.")
    is_perceiver = config.model.name == 'perceiver'
    if not is_perceiver and _PART.value == 'cross_attention':
      raise ValueError(f'model.name={config.model.name!r} has no such part.')
    # A baseline has but one form.
    for form in _ATTENTION.value if is_perceiver else [config.model.name]:
      ours = ConfigDict(config.to_dict())
      if is_perceiver:
        ours.model.attention = form
      ours.model.compute_dtype = _DTYPE.value
      ours.train.batch_size = ours.eval.batch_size = _BATCH_SIZE.value
      _on_one_device(ours)  # Says what is wrong before processes start.
      contenders.append(
        Contender(form, mode, _BATCH_SIZE.value, _PART.value, ours.to_dict())
      )
    if _PEERS.value:
      left_out = peers.left_out(peers.size_of(config))
      contenders.extend(
        Contender(
          name, mode, _BATCH_SIZE.value, 'model', config.to_dict(), peer=True
        )
        for name in peers.NAMES
        if name not in left_out
      )
  return contenders


def main(argv: list[str]) -> None:
  del argv
  host_memory.ask_for_large_pages()  # For all contenders, as runs have them.
  with command.running('peers'):
    if _JSON.value:
      storage.check(storage.path(storage.local(_JSON.value)))
    if _PEERS.value:
      peers.check_installed()
    contenders = contenders_for(_CONFIG.value)
    # The contenders of the other mode would only take memory meanwhile.
    results = [
      result
      for mode in _MODE.value
      for result in measure(
        [c for c in contenders if c.mode == mode], _REPETITIONS.value
      )
    ]
  print(
    f'{_PART.value}, batch {_BATCH_SIZE.value}, {_DTYPE.value}, medians of'
    f' {_REPETITIONS.value}; ratios to the first row of a mode'
  )
  print(_as_text(results))
  if _PEERS.value:
    for name, reason in peers.left_out(peers.size_of(_CONFIG.value)).items():
      print(f'{name} is left out: {reason}.')
  if _JSON.value:
    report = {
      'command': ' '.join(['python -m scripts.benchmark', *sys.argv[1:]]),
      'commit': telemetry.commit(),
      'time': datetime.datetime.now(datetime.UTC).isoformat(),
      'results': results,
    }
    with open(_JSON.value, 'w') as f:
      json.dump(report, f, indent=1)


if __name__ == '__main__':
  app.run(main)
