r"""Plans what a config costs on hardware that is not at hand.

  python -m scripts.plan --config=configs/imagenet.py --target=v5e:8x8
  python -m scripts.plan --config=configs/imagenet.py --target=h100:8 \
      --find=batch_size

It compiles the step that a run takes, for TPUs (v3, v4, v5e, v5p, v6e by
topology) or GPUs (a100, h100, h200, b200 by number). The compilers need no
device, so any machine will do. They plan memory exactly. The time of a TPU
program is the compiler's estimate: good for choosing between programs, not a
promise. A full ImageNet step compiles in two to five minutes on two CPU cores.

The compiler is installed once, into an environment of its own (0.7 GB).
"""

from pathlib import Path
import sys

from absl import app, flags
import jax

from experiments import path_flags
from scripts.plan import compilation, environment, report, step, targets
from scripts.shared import command, measurements

_CONFIG = path_flags.define_config(
  'config', 'configs/imagenet.py', 'The config to plan.'
)
_TARGET = flags.DEFINE_string('target', 'v5e:8x8', 'KIND:TOPOLOGY or KIND:N.')
_MODE = flags.DEFINE_enum('mode', 'train', step.MODES, 'Which step to plan.')
_FIND = flags.DEFINE_enum(
  'find', None, ['batch_size'], 'Search for the largest batch size that fits.'
)
_ENVIRONMENT = path_flags.define_path(
  'environment', None, 'The folder of the compiler; by default in .cache/plan.'
)
_JSON = path_flags.define_path('json', None, 'The file to write the plan to.')


def _compile(target: targets.Target) -> None:
  """Plans and reports; runs in the process that can compile."""
  devices = targets.devices(target)
  config, mode = _CONFIG.value, _MODE.value
  if _FIND.value:
    plan = compilation.find_batch_size(
      config,
      target,
      devices,
      mode,
      lambda trial: print(report.trial(trial), flush=True),
    )
  else:
    plan = compilation.plan(config, target, devices, mode)
  print(report.as_text(plan))
  if _JSON.value:
    facts = {'jax': jax.__version__, **report.as_data(plan)}
    measurements.write(_JSON.value, 'plan', facts)


@command.running()
def main(argv: list[str]) -> None:
  del argv
  target = targets.parse(_TARGET.value)
  if _JSON.value:
    measurements.check(_JSON.value)
  if environment.inside():
    return _compile(target)
  folder = Path(
    _ENVIRONMENT.value or environment.default_folder(target.platform)
  ).absolute()
  environment.install(target.platform, folder)
  again = [sys.executable, '-m', 'scripts.plan', *sys.argv[1:]]
  sys.exit(environment.run(again, folder))


if __name__ == '__main__':
  app.run(main)
