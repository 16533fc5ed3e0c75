"""What the compilers for TPUs and GPUs tell is read rightly; they need neither.

The steps of small configs are compiled for both, as `scripts.plan` does it.
"""

import json
from pathlib import Path
import subprocess
import sys

import pytest

from scripts.planning import (
  bundles,
  compilation,
  environment,
  program,
  ptx,
  targets,
)
from tests.conftest import ROOT

PROGRAM = """\
HloModule jit_train_step, is_scheduled=true

FileNames
1 "/somewhere/optax/transforms/_clipping.py"
2 "/somewhere/experiments/benchmarks/imagenet/task.py"

FunctionNames
1 "<module>"

FileLocations
1 {file_name_id=1 function_name_id=1 line=2 end_line=2}
2 {file_name_id=2 function_name_id=1 line=3 end_line=3}

StackFrames
1 {file_location_id=1 parent_frame_id=1}
2 {file_location_id=2 parent_frame_id=1}

%fused (p: f32[8]) -> f32[8] {
  %p = f32[8]{0:T(128)} parameter(0)
  ROOT %a = f32[8]{0:T(128)} add(%p, %p), metadata={op_name="jit(f)/jvp(perceiver)/head/add"}, backend_config={"estimated_cycles":"999"}
}

%body (q: (s32[], f32[8])) -> (s32[], f32[8]) {
  %q = (s32[]{:T(128)}, /*index=1*/f32[8]{0:T(128)}) parameter(0)
  %k.3.clone = f32[8]{0} custom-call(%q), custom_call_target="tpu_custom_call", operand_layout_constraints={f32[8]{0}}, frontend_attributes={kernel_metadata={
"steps":"11"
}}, metadata={op_name="jit(f)/cross_attend_0/k/pallas_call"}
  %c = f32[8]{0} copy(%k.3.clone), backend_config={"estimated_cycles":"3"}
  %z = f32[8]{0} iota(), backend_config={"estimated_cycles":"4"}
  ROOT %t = (s32[], f32[8]{0:T(128)S(1)}) tuple(%q, %c)
}

%condition (r: (s32[], f32[8])) -> pred[] {
  %r = (s32[], f32[8]) parameter(0)
  %n = s32[]{:T(128)} constant(5)
  %i = s32[]{:T(128)} get-tuple-element(%r), index=0
  ROOT %lt = pred[]{:T(512)} compare(%i, %n), direction=LT
}

%cheap (s: f32[8]) -> f32[8] {
  ROOT %s1 = f32[8]{0} sine(%s), backend_config={"estimated_cycles":"1"}
}

%dear (s: f32[8]) -> f32[8] {
  ROOT %s2 = f32[8]{0} sine(%s), backend_config={"estimated_cycles":"10"}
}

ENTRY %main (x: f32[8]) -> f32[8] {
  %x = f32[8]{0} parameter(0)
  %f = f32[8]{0} fusion(%x), kind=kLoop, calls=%fused, backend_config={"estimated_cycles":"100"}
  %w = (s32[], f32[8]{0}) while(%x), condition=%condition, body=%body, metadata={op_name="jit(f)/latent_transformer_0/while"}
  %v = (s32[], f32[8]{0}) while(%x), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"2"}}
  %b = f32[8]{0} conditional(%x, %x, %x), branch_computations={%cheap, %dear}
  %g = f32[8]{0} multiply(%x, %x), metadata={op_name="jit(train_step)/mul" stack_frame_id=1}, backend_config={"estimated_cycles":"1000"}
  %e = f32[8]{0} multiply(%x, %x), metadata={op_name="jit(train_step)/mul" stack_frame_id=2}, backend_config={"estimated_cycles":"2000"}
  %s = (f32[8]{0}, bf16[4,2]{1,0}) all-reduce-start(%x, %x)
  ROOT %d = (f32[8]{0}, bf16[4,2]{1,0}) all-reduce-done(%s)
}
"""  # noqa: E501


def test_cost_of_a_program():
  cost = program.cost(program.parse(PROGRAM))
  assert cost.cycles == {
    'head': 100,  # The fusion's own figure, its root's scope.
    'cross-attends': (5 + 2) * 3,  # The condition's constant; as is noted.
    'latent Transformers': 5 * 4,  # The loop's scope.
    'other': 2 * 4 + 10,  # No scope at all; the dearest branch.
    'optimiser': 1000,  # By the file it comes from, as the next.
    'input': 2000,
  }
  kernel = program.Kernel('k', 'k.3.clone', 'cross-attends', 11, 'f32[8]{0}')
  assert cost.kernels == {kernel: 7}
  assert cost.collectives == {'all-reduce': 1}
  assert cost.collective_bytes == {'all-reduce': 8 * 4 + 8 * 2}
  assert cost.unknown_loops == 0
  cost.add_kernels({'k.3.clone': 20.0, 'another': 1.0})
  assert cost.cycles['cross-attends'] == 7 * 3 + 7 * 11 * 20


def test_kernels_are_told_apart_by_their_operands():
  printed = 'f32[8,56,16,896]{3,2,1,0}, bf16[]{:T(256)}, f32[4]{0}'
  assert bundles.signature(printed) == 'f32[8,56,16,896], bf16[], f32[4]'


def test_a_loop_of_unknown_length_counts_once():
  text = PROGRAM.replace('constant(5)', 'parameter(1)')
  cost = program.cost(program.parse(text))
  assert cost.unknown_loops == 1
  assert cost.cycles['latent Transformers'] == 4


def test_registers_and_spills():
  output = """\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'forward' for 'sm_90a'
ptxas info    : Function properties for forward
    0 bytes stack frame, 272 bytes spill stores, 300 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers, 8 bytes smem
"""
  # 128 threads of 256 registers each: two programs have 65,536.
  assert ptx.parse(output, {'forward': 128}) == [
    ptx.Kernel('forward', registers=255, spill_bytes=272, programs=2)
  ]


@pytest.mark.parametrize('largest', [0, 1, 2, 3, 5, 6, 7, 96, 100, 1000])
@pytest.mark.parametrize('start', [1, 8, 100])
def test_search_for_the_largest_batch(largest, start):
  trials = []

  def fits(n):
    trials.append(n)
    return n <= largest

  found = compilation.largest(fits, start)
  assert found <= largest < found + max(1, found / 4)
  assert len(trials) == len(set(trials)) <= 13


def test_an_installation_is_whole_or_not_at_all(tmp_path, monkeypatch):
  folder = tmp_path / 'plan' / 'tpu'

  def pip(status):
    def run(command, **options):
      packages = Path(command[command.index('--target') + 1])
      (packages / 'libtpu').mkdir(parents=True)
      return subprocess.CompletedProcess(command, status, '', 'no\nERROR: full')

    monkeypatch.setattr(subprocess, 'run', run)

  pip(1)
  with pytest.raises(OSError, match=r'pip cannot install .* ERROR: full'):
    environment.install('tpu', folder)
  assert list(folder.parent.iterdir()) == []
  pip(0)
  environment.install('tpu', folder)
  assert list(folder.parent.iterdir()) == [folder]
  pip(1)
  environment.install('tpu', folder)  # It is there: pip is not asked.


def test_the_compiler_is_that_of_this_jax():
  (requirement,) = environment.requirements('tpu')
  assert requirement.startswith('libtpu==')
  assert len(environment.requirements('gpu')) == 3


@pytest.mark.parametrize(
  'text', ['v5e', 'v5e:16', 'v9:2x2', 'h100', 'h100:0', 'h100:2x2', '']
)
def test_unknown_targets(text):
  with pytest.raises(ValueError, match=r'--target=.* v5e:8x8, .* h100:8'):
    targets.parse(text)


def run(*arguments):
  return subprocess.run(
    [sys.executable, '-m', 'scripts.plan', *arguments],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )


def test_an_unknown_target_is_one_line():
  result = run('--config=configs/digits.py', '--target=tpu:2')
  assert result.returncode == 1
  assert result.stderr.startswith('Error: --target=tpu:2 is no ')
  assert result.stderr.count('\n') == 1


# One process for all configs of a platform. A batch of two on each device.
COMPILE_ALL = """
import importlib, json, sys
from scripts.planning import bundles, compilation, report, targets
target = targets.parse(sys.argv[1])
devices = targets.devices(target)
for name in sys.argv[2:]:
  module, _, variant = name.partition(':')
  config = importlib.import_module(f'configs.{module}').get_config(variant)
  config.train.batch_size = 2 * len(devices)
  plan = compilation.plan(config, target, devices)
  print(json.dumps({'config': name, **report.as_data(plan)}))
"""
CONFIGS = ('digits:smoke', 'imagenet:tiny', 'modelnet40:solids')
# Take the GPU compiler half a minute each.
MORE = ('fashion_mnist', 'audioset:events_audio')


@pytest.mark.parametrize(
  ('target', 'num_devices', 'configs'),
  [('v5e:2x2', 4, (*CONFIGS, *MORE)), ('h100:2', 2, CONFIGS)],
)
def test_training_steps_compile(compilers, target, num_devices, configs):
  platform = targets.parse(target).platform
  result = subprocess.run(
    [sys.executable, '-c', COMPILE_ALL, target, *configs],
    cwd=ROOT,
    env=environment.variables(compilers[platform]),
    capture_output=True,
    text=True,
  )
  assert result.returncode == 0, result.stderr
  plans = [json.loads(line) for line in result.stdout.splitlines()]
  assert [plan['config'] for plan in plans] == list(configs)
  for plan in plans:
    assert plan['fits']
    assert plan['num_devices'] == num_devices
    assert plan['batch_size'] == 2 * num_devices
    assert plan['memory']['total'] > plan['memory']['temporaries'] > 0
    # Mixup draws from a beta distribution, by rejection.
    is_drawn = plan['config'].startswith('imagenet')
    assert (plan['cost']['unknown_loops'] > 0) == is_drawn
    assert plan['cost']['collectives']['all-reduce'] >= 1  # Of all sums.
    if platform == 'gpu':
      assert plan['estimated_ms'] is None
      assert {kernel['name'] for kernel in plan['kernels']} == {
        kernel['name'] for kernel in plan['cost']['kernels']
      }
      continue
    cycles = plan['cost']['cycles']
    kernels = plan['cost']['kernels']
    assert {'cross_attention_forward', 'cross_attention_backward'} <= {
      kernel['name'] for kernel in kernels
    }
    for kernel in kernels:
      assert kernel['part'] in ('cross-attends', 'latent Transformers')
      assert kernel['cycles'] > 100
      assert (
        kernel['calls'] * kernel['steps'] * kernel['cycles']
        <= (cycles[kernel['part']])
      )
    assert plan['estimated_ms'] == sum(cycles.values()) / 1.5e6
    assert {'cross-attends', 'latent Transformers', 'optimiser'} <= {*cycles}
    assert cycles.get('other', 0) < 0.1 * sum(cycles.values())


def test_the_command(compilers, tmp_path):
  path = tmp_path / 'plan.json'
  digits = ('--config=configs/digits.py:smoke', '--target=v5e:2x2')
  result = run(
    *digits,
    '--mode=eval',
    '--config.eval.batch_size=16',
    '--config.model.attention=plain',
    f'--json={path}',
  )
  assert result.returncode == 0, result.stderr
  assert 'eval step, batch 16, v5e:2x2: 4 devices' in result.stdout
  assert 'ESTIMATED, not measured' in result.stdout
  assert 'libtpu' not in result.stderr
  report = json.loads(path.read_text())
  assert {'command', 'commit', 'jax', 'time'} <= report.keys()
  assert report['fits']
  assert 'optimiser' not in report['cost']['cycles']
  result = run(*digits, '--config.train.batch_size=6')
  assert result.returncode == 1
  assert result.stderr.splitlines()[-1].startswith(
    'Error: train.batch_size=6 is not divisible by 4 device(s)'
  )
  result = run('--config=configs/digits.py', '--target=v5e:3x5')
  assert result.returncode == 1
  assert result.stderr.splitlines()[-1].startswith('Error: --target=v5e:3x5: ')
