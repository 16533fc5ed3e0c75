r"""Times a config's model in the forms of its cross-attention, side by side.

  python -m scripts.benchmark --attention=plain,factored --mode=forward,train
  python -m scripts.benchmark --part=cross_attention --mode=forward,train
  python -m scripts.benchmark --mode=train --peers
  python -m scripts.benchmark --config=configs/fashion_mnist.py \
      --batch_size=64 --attention=auto --peers

Each contender runs in its own process, so its peak memory is its own. On a CPU
the contenders take turns, A B A B …, so that a drift of the machine's speed
affects all alike; a turn has two steps, of which the second one is timed. On an
accelerator they run one after the other, because each needs its memory. The
input is random.
"""

from typing import Any

from absl import app, flags
from ml_collections import ConfigDict

from experiments import host_memory, path_flags
from scripts.benchmark import peers, processes
from scripts.benchmark.contenders import Contender, on_one_device
from scripts.shared import command, measurements

_CONFIG = path_flags.define_config(
  'config', 'configs/imagenet.py', 'The config whose model to time.'
)
_ATTENTION = flags.DEFINE_list(
  'attention', ['plain', 'factored'], 'Values of model.attention.'
)
_MODE = flags.DEFINE_list('mode', ['train'], "Some of 'forward' and 'train'.")
_PART = flags.DEFINE_enum(
  'part',
  'model',
  ['model', 'cross_attention'],
  'The whole model, or one cross-attention without its dense block.',
)
_BATCH_SIZE = flags.DEFINE_integer('batch_size', 1, 'Examples per step.')
_DTYPE = flags.DEFINE_enum(
  'dtype', 'float32', ['float32', 'bfloat16'], 'The dtype to compute in.'
)
_REPETITIONS = flags.DEFINE_integer(
  'repetitions', 5, 'Timed steps per contender.'
)
_PEERS = flags.DEFINE_bool(
  'peers', False, 'Also time other implementations (extra [peers]).'
)
_JSON = path_flags.define_path(
  'json', None, 'The file to write the results to.'
)


def _as_text(results: list[dict[str, Any]]) -> str:
  """Returns a table; ratios are to the first row of the same mode."""
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
  """Returns the requested contenders. Raises ValueError for bad flags."""
  is_perceiver = config.model.name == 'perceiver'
  if not is_perceiver and _PART.value == 'cross_attention':
    raise ValueError(f'model.name={config.model.name!r} has no such part.')
  # A baseline has only one form.
  forms = _ATTENTION.value if is_perceiver else [config.model.name]
  contenders = []
  for mode in _MODE.value:
    if mode not in ('forward', 'train'):
      raise ValueError(f"--mode={mode} is neither 'forward' nor 'train'.")
    for form in forms:
      ours = ConfigDict(config.to_dict())
      if is_perceiver:
        ours.model.attention = form
      ours.model.compute_dtype = _DTYPE.value
      ours.train.batch_size = ours.eval.batch_size = _BATCH_SIZE.value
      on_one_device(ours)  # Raises before processes start.
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


@command.running('peers')
def main(argv: list[str]) -> None:
  del argv
  host_memory.ask_for_large_pages()  # As runs have them.
  if _JSON.value:
    measurements.check(_JSON.value)
  if _PEERS.value:
    peers.check_installed()
  contenders = contenders_for(_CONFIG.value)
  # One mode at a time: idle contenders would take memory.
  results = [
    result
    for mode in _MODE.value
    for result in processes.measure(
      [c for c in contenders if c.mode == mode], _REPETITIONS.value
    )
  ]
  print(f'on {", ".join(sorted({r["device"] for r in results}))}')
  print(
    f'{_PART.value}, batch {_BATCH_SIZE.value}, {_DTYPE.value}, medians of'
    f' {_REPETITIONS.value}; ratios to the first row of a mode'
  )
  print(_as_text(results))
  if _PEERS.value:
    for name, reason in peers.left_out(peers.size_of(_CONFIG.value)).items():
      print(f'{name} is left out: {reason}.')
  if _JSON.value:
    measurements.write(_JSON.value, 'benchmark', {'results': results})


if __name__ == '__main__':
  app.run(main)
