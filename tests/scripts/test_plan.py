"""The output of the compilers for TPUs and GPUs is read correctly.

Steps of small configs are compiled for both, as in `scripts.plan`, without any
device.
"""

import dataclasses
import importlib
import inspect
import json
import os
from pathlib import Path
import re
import subprocess

import jax
import optax
from optax.transforms import _clipping as clipping
import pytest

from configs import digits, imagenet
from experiments import benchmarks, evaluate, optimizers, train_step
from experiments.benchmarks.audioset import task as audioset
import perceiver
from perceiver import inputs, modalities, ops
from scripts.plan import (
  bundles,
  compilation,
  environment,
  hlo,
  parts,
  program,
  ptx,
  report,
  step,
  targets,
)
from tests import commands
from tests.configs.test_configs import SHALLOW, shallow
from tests.conftest import CONFIGS, ROOT

PROGRAM = """\
HloModule jit_train_step, is_scheduled=true

FileNames
1 "OPTAX"
2 "AUDIOSET"

FunctionNames
1 "clip_by_global_norm"
2 "AudioSet.augment_batch"
3 "AudioSet.loss.<locals>.<lambda>"

FileLocations
1 {file_name_id=1 function_name_id=1 line=2 end_line=2}
2 {file_name_id=2 function_name_id=2 line=3 end_line=3}
3 {file_name_id=2 function_name_id=3 line=4 end_line=4}

StackFrames
1 {file_location_id=1 parent_frame_id=1}
2 {file_location_id=2 parent_frame_id=1}
3 {file_location_id=3 parent_frame_id=1}

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
  %l = f32[8]{0} multiply(%x, %x), metadata={op_name="jit(train_step)/mul" stack_frame_id=3}, backend_config={"estimated_cycles":"4000"}
  %o.2 = f32[8]{0} custom-call(%x), custom_call_target="__cudnn$fmhaSoftmax", metadata={op_name="jit(f)/latent_transformer_0/o"}
  %h.2 = f32[8]{0} custom-call(%x), custom_call_target="__cudnn$convForward", metadata={op_name="jit(f)/head/h"}
  %s = (f32[8]{0}, bf16[4,2]{1,0}) all-reduce-start(%x, %x)
  ROOT %d = (f32[8]{0}, bf16[4,2]{1,0}) all-reduce-done(%s)
}
"""  # noqa: E501
PROGRAM = PROGRAM.replace('OPTAX', clipping.__file__)
PROGRAM = PROGRAM.replace('AUDIOSET', audioset.__file__)


def test_cost_of_a_program():
  cost = program.cost(hlo.parse(PROGRAM))
  assert cost.cycles == {
    'head': 100,  # The fusion's own figure, its root's scope.
    'cross-attends': (5 + 2) * 3,  # The condition's constant; the noted count.
    'latent Transformers': 5 * 4,  # The loop's scope.
    'other': 2 * 4 + 10,  # Without any scope; the most expensive branch.
    'optimiser': 1000,  # By its source file, like the next one.
    'input': 2000,
    'loss': 4000,  # By the function.
  }
  kernel = program.Kernel('k', 'k.3.clone', 'cross-attends', 11, 'f32[8]{0}')
  attention = program.Kernel('o', 'o.2', 'latent Transformers', 1, '')
  assert cost.kernels == {kernel: 7, attention: 1}
  assert cost.collectives == {'all-reduce': 1}
  assert cost.collective_bytes == {'all-reduce': 8 * 4 + 8 * 2}
  assert cost.unknown_loops == 0
  cost.add_kernels({'k.3.clone': 20.0, 'another': 1.0})
  assert cost.cycles['cross-attends'] == 7 * 3 + 7 * 11 * 20


# Compiled for the CPU, without the cache, which keeps no sources. Together, the
# small models have every kind of operation.
ORIGINS = """
import json
import jax
from configs import audioset, digits
from scripts.plan import hlo, step
from tests.configs.test_configs import baseline, BASELINES

query = digits.get_config('smoke')
query.model.update(head='query', dropout_rate=0.1)
windows = audioset.get_config('events_av')
windows.eval.batch_size = 1
windows.model.update(num_cross_attends=1, num_latent_transformers=1)
for config, mode in (
  (query, 'train'),
  (windows, 'eval'),
  *((baseline(name), 'eval') for name in BASELINES),
):
  traced, _ = step.trace(config, mode, jax.devices()[:1])
  parsed = hlo.parse(traced.lower().compile().as_text())
  for instructions in parsed.computations.values():
    for x in instructions:
      print(json.dumps([x.opcode, *parsed.origin(x)]))
"""


@pytest.mark.slow
def test_every_operation_has_a_part_and_every_rule_an_operation():
  uncached = os.environ | {'JAX_ENABLE_COMPILATION_CACHE': 'false'}
  result = commands.python('-c', ORIGINS, env=uncached)
  assert result.returncode == 0, result.stderr
  origins = {tuple(json.loads(line)) for line in result.stdout.splitlines()}
  matched = set()
  for opcode, *origin in origins:
    where = ' '.join(origin)
    rule = next((x for x in parts.RULES if re.search(x[1], where)), None)
    matched.add(rule)
    if origin[0] and opcode in ('dot', 'convolution'):
      assert rule, where
      assert rule[0] != parts.LOOPS, where
    if str(ROOT / 'experiments') in where or str(ROOT / 'perceiver') in where:
      assert rule, where
  assert matched - {None} == set(parts.RULES)


@pytest.mark.parametrize(
  ('scope', 'place', 'part'),
  [
    # The select that skips a step that is not finite.
    ('jit(_where)/select_n', train_step.make_train_step, 'optimiser'),
    ('div', train_step.make_train_step, 'optimiser'),
    ('update', optimizers.create, 'optimiser'),
    ('top_k', evaluate.best_classes, 'loss'),
    ('log', optax.softmax_cross_entropy, 'loss'),
    ('mul', optax.lamb, 'optimiser'),
    ('mul', modalities.Image.content, 'input'),
    ('jvp(resnet)/res_net/block_group_0/conv', ops, 'convolutions'),
    ('jvp(resnet)/res_net/logits/dot_general', ops, 'head'),
    ('perceiver/reduce_sum', perceiver.Perceiver, 'head'),
    ('while/body/select_n', inputs.ByteArray.to_array, 'input'),
    ('jit(main)/add', None, None),
  ],
)
def test_parts_by_scope_and_place(scope, place, part):
  source = ''
  if place is not None:
    file = inspect.getfile(inspect.unwrap(place))
    source = f'{file}:{getattr(place, "__qualname__", "f")}'
  assert parts.part_of(f'jit(train_step)/{scope}', source) == part


@pytest.mark.slow
@pytest.mark.parametrize('name', CONFIGS)
def test_the_evaluation_of_every_kind_of_variant_is_traced(name):
  """Variants are of one kind if model and batch have the same parts."""
  module = importlib.import_module(f'configs.{name}')
  traced = set()
  for variant in module.VARIANTS:
    config = shallow(module.get_config(variant))
    config.eval.batch_size = 2
    task = benchmarks.create(**config.task)
    kind = config.model.name, *task.eval_batch_spec(2)
    if kind in traced:
      continue
    traced.add(kind)
    evaluation, run = step.trace(config, 'eval', jax.devices()[:1])
    predictions = evaluation.out_info.predictions
    classes = min(evaluate.TOP, run.task.num_classes)
    assert predictions['classes'].shape == (2, classes), variant


def test_the_other_modes_batch_does_not_matter():
  config = digits.get_config('smoke')
  config.train.update(accumulate=3, batch_size=30, steps=None, epochs=1.0)
  config.eval.batch_size = 16
  devices = jax.devices()
  target = targets.parse('v5e:2x4')
  with pytest.raises(ValueError, match=r'train.batch_size=30 is not divisible'):
    compilation.plan(config, target, devices, 'train')
  plan = compilation.plan(config, target, devices, 'eval')
  assert plan.batch_size == 16
  assert plan.total_steps == 48  # 1,437 examples in batches of 30.
  config.eval.batch_size = 12
  with pytest.raises(ValueError, match=r'^eval.batch_size=12 is not divisible'):
    compilation.plan(config, target, devices, 'eval')


def test_kernels_are_told_apart_by_their_operands():
  printed = 'f32[8,56,16,896]{3,2,1,0}, bf16[]{:T(256)}, f32[4]{0}'
  assert bundles.signature(printed) == 'f32[8,56,16,896], bf16[], f32[4]'


def test_a_loop_of_unknown_length_counts_once():
  text = PROGRAM.replace('constant(5)', 'parameter(1)')
  cost = program.cost(hlo.parse(text))
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
      metadata = packages / 'libtpu-1.dist-info' / 'METADATA'
      metadata.parent.mkdir(parents=True)
      metadata.write_text('Name: libtpu\nVersion: 1\n')
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
  monkeypatch.setattr(environment, 'requirements', lambda _: ['libtpu==1.*'])
  environment.install('tpu', folder)  # It exists: pip is not called.
  assert environment.compiler(folder) == f'jax {jax.__version__}, libtpu 1'
  monkeypatch.setattr(environment, 'requirements', lambda _: ['libtpu==2.*'])
  with pytest.raises(ValueError, match=r'has libtpu 1, but jax .* libtpu==2'):
    environment.install('tpu', folder)


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


def test_an_unknown_target_is_one_line():
  command = 'scripts.plan', '--config=configs/digits.py', '--target=tpu:2'
  assert commands.error(*command).startswith('Error: --target=tpu:2 is no ')


def test_a_plan_is_told_in_lines_and_as_data():
  cost = program.cost(hlo.parse(PROGRAM))
  kernel_cycles = {'k.3.clone': 20.0}
  cost.add_kernels(kernel_cycles)
  plan = compilation.Plan(
    targets.parse('v5e:2x2'),
    mode='train',
    batch_size=8,
    num_devices=4,
    total_steps=10,
    compile_s=3.0,
    compiler='jax 0.12, libtpu 0.0.50',
    memory=compilation.Memory(2**30, 2**29, 2**28, 2**28),
    cost=cost,
    kernel_cycles=kernel_cycles,
  )
  data = json.loads(json.dumps(report.as_data(plan)))
  assert data['fits']
  assert data['memory']['total'] == 2**30 + 2**29
  assert data['estimated_ms'] == sum(data['cost']['cycles'].values()) / 1.5e6
  kernel, _ = data['cost']['kernels']
  assert (kernel['name'], kernel['calls'], kernel['cycles']) == ('k', 7, 20.0)
  text = report.as_text(plan)
  for line in (
    'train step, batch 8, v5e:2x2: 4 devices, 2 examples on each;'
    ' compiled in 3 s by jax 0.12, libtpu 0.0.50',
    'Fits: 1.50 of 16.00 GiB',
    'ESTIMATED, not measured',
    'all-reduce: 1 times',
    'kernel k (cross-attends): 7 calls of 11 programs, 20 cycles each',
    'kernel o (latent Transformers): 1 calls',
  ):
    assert line in text
  assert report.trial(plan) == 'batch 8: fits, 1.50 GiB'
  refused = dataclasses.replace(plan, refusal='No memory.', memory=None)
  assert report.trial(refused) == 'batch 8: does not fit, No memory.'
  gpu = dataclasses.replace(
    plan,
    target=targets.parse('h100:4'),
    kernels=[ptx.Kernel('k', registers=255, spill_bytes=8, programs=2)],
  )
  assert report.as_data(gpu)['estimated_ms'] is None
  assert 'kernel k: 255 registers, 8 bytes spilled, 2' in report.as_text(gpu)


def plan(path, target, *arguments):
  """Runs the command; returns its JSON and its output."""
  result = commands.python(
    *('-m', 'scripts.plan', f'--target={target}', f'--json={path}', *arguments)
  )
  assert result.returncode == 0, result.stderr
  assert 'libtpu' not in result.stderr
  return json.loads(path.read_text()), result.stdout


SMALL = (
  '--config=configs/digits.py:smoke',
  '--config.model.num_latent_transformers=1',
  '--config.model.num_cross_attends=1',
)


@pytest.mark.slow
@pytest.mark.versions
def test_a_training_step_compiles_for_tpus(compilers, tmp_path):
  plan_, printed = plan(
    *(tmp_path / 'plan.json', 'v5e:2x2', '--config=configs/digits.py:smoke'),
    '--config.train.batch_size=8',
  )
  assert 'train step, batch 8, v5e:2x2: 4 devices' in printed
  assert 'ESTIMATED, not measured' in printed
  assert {'command', 'commit', 'jax', 'time'} <= plan_.keys()
  assert plan_['fits']
  assert plan_['num_devices'] == 4
  assert plan_['memory']['total'] > plan_['memory']['temporaries'] > 0
  cost = plan_['cost']
  assert cost['unknown_loops'] == 0
  assert cost['collectives']['all-reduce'] >= 1  # One for all sums.
  cycles, kernels = cost['cycles'], cost['kernels']
  assert {'cross_attention_forward', 'cross_attention_backward'} <= {
    kernel['name'] for kernel in kernels
  }
  for kernel in kernels:
    assert kernel['part'] in ('cross-attends', 'latent Transformers')
    assert kernel['cycles'] > 100
    calls = kernel['calls'] * kernel['steps']
    assert calls * kernel['cycles'] <= cycles[kernel['part']]
  assert plan_['estimated_ms'] == sum(cycles.values()) / 1.5e6
  assert {'cross-attends', 'latent Transformers', 'optimiser'} <= {*cycles}
  assert cycles.get('other', 0) < 0.02 * sum(cycles.values())


@pytest.mark.slow
@pytest.mark.versions
def test_a_training_step_compiles_for_gpus(compilers, tmp_path):
  plan_, _ = plan(
    *(tmp_path / 'plan.json', 'h100:2', *SMALL), '--config.train.batch_size=4'
  )
  assert plan_['fits']
  assert (plan_['num_devices'], plan_['batch_size']) == (2, 4)
  assert plan_['estimated_ms'] is None
  assert plan_['cost']['collectives']['all-reduce'] >= 1
  assert plan_['kernels']
  assert {kernel['name'] for kernel in plan_['kernels']} == {
    kernel['name'] for kernel in plan_['cost']['kernels']
  }


def test_a_step_that_mixes_two_batches_takes_both():
  config = shallow(imagenet.get_config('tiny'))
  for mix_with, count in (('neighbours', 16), ('another_batch', 32)):
    config.task.mix_with = mix_with
    traced, _ = step.trace(config, 'train', jax.devices()[:1])
    *_, batch = traced.in_avals[0]
    assert batch['image'].shape[0] == count


# Mixup draws from a beta distribution by rejection, in a loop.
@pytest.mark.slow
def test_loops_of_a_program_for_tpus_may_be_of_unknown_length(
  compilers, tmp_path
):
  depths = (f'--config.model.{key}=1' for key in tuple(SHALLOW)[:3])
  plan_, printed = plan(
    *(tmp_path / 'plan.json', 'v5e:1x1', '--config=configs/imagenet.py:tiny'),
    *depths,
    *('--config.model.attention=plain', '--config.train.batch_size=2'),
  )
  assert plan_['cost']['unknown_loops'] > 0
  assert 'counted once' in printed
  cycles = plan_['cost']['cycles']
  assert cycles.get('other', 0) < 0.02 * sum(cycles.values())


@pytest.mark.slow
def test_a_topology_that_the_compiler_does_not_know_is_one_line(compilers):
  result = commands.python(
    *('-m', 'scripts.plan', *SMALL, '--target=v5e:3x5'),
    env=environment.variables(compilers['tpu']),
  )
  assert result.returncode == 1
  assert result.stderr.splitlines()[-1].startswith('Error: --target=v5e:3x5: ')
