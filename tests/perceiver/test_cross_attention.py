"""The three forms of cross-attention compute the same function."""

import dataclasses
import functools

import haiku as hk
from hypothesis import given, Phase, settings
from hypothesis import strategies as st
import jax
import jax.extend
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import numpy as np
import pytest

import perceiver
from perceiver.ops import cross_attention
from perceiver.ops.cross_attention import choice, factored
from perceiver.ops.cross_attention.elements import Elements, Vectors
from perceiver.ops.cross_attention.hardware import HARDWARE
from perceiver.ops.cross_attention.kernels import gpu, tpu
from tests import quick
from tests.perceiver import reference
from tests.perceiver.conftest import grid_segment
from tests.perceiver.test_model import build, single

OTHERS = ('no_kv', 'factored')
GPU_KERNEL = factored.Kernel(gpu, interpret=True)
TPU_KERNEL = factored.Kernel(tpu, interpret=True)


def attend(query, inputs, parameters, form, tile=None, kernel=None, mesh=None):
  method = cross_attention.Method(form, tile, kernel, mesh)
  prepared = cross_attention.prepare(inputs, method, query.dtype)
  return cross_attention.cross_attend(query, prepared, parameters)


def loss(query, inputs, parameters, method):
  out = attend(query, inputs, parameters, **method)
  # Not symmetric: each entry has its own weight.
  weights = jnp.cos(jnp.arange(out.size, dtype=out.dtype)).reshape(out.shape)
  return jnp.sum(weights * out), out


@functools.partial(jax.jit, static_argnames=('form', 'tile', 'kernel', 'mesh'))
def value_and_gradients(query, inputs, parameters, **method):
  """Returns the output, and gradients for all floats."""
  (_, out), gradients = jax.value_and_grad(
    loss, argnums=(0, 1, 2), has_aux=True, allow_int=True
  )(query, inputs, parameters, method)
  floats = [
    g for g in jax.tree.leaves(gradients) if g.dtype != jax.dtypes.float0
  ]
  return out, floats


def random_parameters(rng, c, channels):
  draw = lambda *shape, mean=0.0, scale=1.0: jnp.asarray(
    rng.normal(mean, scale, shape), jnp.float32
  )
  return cross_attention.Parameters(
    scale=draw(c, mean=1.0, scale=0.2),
    offset=draw(c, scale=0.2),
    key_w=draw(c, channels, scale=c**-0.5),
    key_b=draw(channels, scale=0.2),
    value_w=draw(c, channels, scale=c**-0.5),
    value_b=draw(channels, scale=0.2),
  )


def assert_close(actual, expected, relative, floor=0.0):
  """Asserts closeness in norm; `floor` is an absolute error per entry."""
  error = np.linalg.norm(np.asarray(actual, np.float64) - expected)
  size = np.linalg.norm(np.asarray(expected, np.float64))
  assert error <= relative * size + floor * np.sqrt(np.size(expected))


def assert_same_gradients(actual, expected, relative):
  # Relative to the largest entry: the gradient of the keys' bias is exactly
  # zero in the forms without keys, and rounding noise in the plain form.
  floor = relative * 1e-2 * max(np.abs(g).max(initial=0.0) for g in expected)
  for one, other in zip(actual, expected, strict=True):
    assert_close(one, other, relative, floor)


@pytest.fixture(scope='module')
def imagenet():
  """Cross-attends from some latents to the full 50,176 x 261 inputs."""
  rng = np.random.default_rng(0)
  content = jnp.asarray(rng.normal(size=(1, 224, 224, 3)), jnp.float32)
  inputs = perceiver.ByteArray((grid_segment(content, 64),))
  assert (inputs.num_elements, inputs.num_channels) == (50_176, 261)
  query = jnp.asarray(rng.normal(size=(1, 128, 1, 261)), jnp.float32)
  parameters = random_parameters(rng, 261, 261)
  expected = value_and_gradients(query, inputs, parameters, form='plain')
  return query, inputs, parameters, expected


@pytest.mark.slow
@pytest.mark.parametrize(
  ('form', 'kernel'),
  [('no_kv', None), ('factored', None), ('factored', TPU_KERNEL)],
)
def test_full_size_under_jit(imagenet, form, kernel):
  query, inputs, parameters, (expected, gradients) = imagenet
  out, others = value_and_gradients(
    query, inputs, parameters, form=form, kernel=kernel
  )
  assert_close(out, expected, 1e-5)
  # Query, content, tables of both axes, six parameters.
  assert len(others) == len(gradients) == 10
  assert_same_gradients(others, gradients, 1e-4)


@pytest.mark.slow
def test_full_size_in_bfloat16(imagenet):
  query, inputs, parameters, (expected, _) = imagenet
  run = jax.jit(attend, static_argnames=('form', 'kernel'))

  def error(form, kernel=None):
    out = run(
      query.astype(jnp.bfloat16), inputs, parameters, form=form, kernel=kernel
    )
    assert out.dtype == jnp.bfloat16
    difference = np.asarray(out, np.float64) - expected
    return np.linalg.norm(difference) / np.linalg.norm(expected)

  allowed = min(1e-2, error('plain'))
  for form, kernel in (
    ('no_kv', None),
    ('factored', None),
    ('factored', GPU_KERNEL),
    ('factored', TPU_KERNEL),
    ('no_kv', TPU_KERNEL),
  ):
    assert error(form, kernel) <= allowed, (form, kernel)


@dataclasses.dataclass(frozen=True)
class Part:
  """A segment of a problem."""

  grid: tuple[int, ...]
  channels: int  # Of the content.
  positions: str  # Per 'axis', or an array for 'all' or for 'each' example.
  present: float | None = None  # Fraction of the elements; None: no mask.
  bands: int = 2


@dataclasses.dataclass(frozen=True)
class Problem:
  """Shapes of a cross-attention; all contents are random."""

  parts: tuple[Part, ...]
  batch: int = 2
  latents: int = 3
  heads: int = 1
  width: int = 2
  tile: int | None = None
  is_fused: bool = True  # Always where there are several parts.
  seed: int = 0


def segment(part, batch, rng):
  content = rng.normal(size=(batch, *part.grid, part.channels))
  if part.positions == 'axis':
    tables = perceiver.fourier_axes(part.grid, part.bands, 8)
    positions = tuple(map(jnp.asarray, tables))
  else:
    count = batch if part.positions == 'each' else 1
    positions = rng.normal(size=(count, *part.grid, part.bands))
    positions = jnp.asarray(positions, jnp.float32)
  mask = None
  if part.present is not None:
    mask = rng.uniform(size=(batch, *part.grid)) < part.present
  return perceiver.Segment(
    jnp.asarray(content, jnp.float32), positions, mask=mask
  )


def arrays(problem):
  """Makes the query, the byte array and the parameters."""
  rng = np.random.default_rng(problem.seed)
  segments = {
    str(i): segment(part, problem.batch, rng)
    for i, part in enumerate(problem.parts)
  }
  if problem.is_fused:
    fuse = hk.transform(lambda: perceiver.ModalityEncoding(2)(segments))
    params = jax.tree.map(
      lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype),
      jax.eval_shape(fuse.init, jax.random.key(0)),
    )
    inputs = fuse.apply(params, None)
  else:
    inputs = perceiver.ByteArray(tuple(segments.values()))
  shape = (problem.batch, problem.latents, problem.heads, problem.width)
  query = jnp.asarray(rng.normal(size=shape), jnp.float32)
  channels = problem.heads * problem.width
  return query, inputs, random_parameters(rng, inputs.num_channels, channels)


def check_against_plain(problem, methods):
  run = functools.partial(value_and_gradients, *arrays(problem))
  expected, gradients = run(form='plain')
  for form, kernel in methods:
    out, others = run(form=form, tile=problem.tile, kernel=kernel)
    assert_close(out, expected, 1e-5, floor=1e-5)
    assert_same_gradients(others, gradients, 1e-4)


WITHOUT_KERNEL = [('no_kv', None), ('factored', None)]
FORMS = [*WITHOUT_KERNEL, ('factored', TPU_KERNEL)]


@pytest.mark.parametrize(
  ('problem', 'methods'),
  [
    (
      Problem((Part((5,), 3, 'axis'),), is_fused=False, latents=7, width=4),
      WITHOUT_KERNEL,
    ),
    # Wide content, which the kernel multiplies separately.
    (
      Problem(
        (Part((2, 3, 4), 0, 'axis', 0.5), Part((4,), 20, 'each', 1.0)),
        batch=1,
        latents=5,
        heads=3,
        tile=2,
      ),
      FORMS,
    ),
    # No element exists.
    pytest.param(
      Problem((Part((4, 3), 4, 'each', 0.0),), heads=2, tile=1),
      FORMS,
      marks=pytest.mark.slow,
    ),
  ],
  ids=['line', 'wide', 'nothing'],
)
def test_all_forms_agree(problem, methods):
  check_against_plain(problem, methods)


@st.composite
def problems(draw, only_narrow_grids=False):
  """Draws problems with 1 to 3 parts of different kinds."""
  one_of = lambda *values: draw(st.sampled_from(values))
  count = draw(st.integers(1, 3))
  parts = tuple(
    Part(
      tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))),
      draw(st.integers(0, 6 if only_narrow_grids else 20)),
      'axis' if only_narrow_grids else one_of('axis', 'axis', 'all', 'each'),
      one_of(None, 0.0, 0.5, 1.0),
      draw(st.integers(1, 3)),
    )
    for _ in range(count)
  )
  return Problem(
    parts,
    batch=draw(st.integers(1, 2)),
    latents=draw(st.integers(1, 7)),
    heads=draw(st.integers(1, 3)),
    width=draw(st.integers(1, 4)),
    tile=one_of(None, 1, 2, 5),
    is_fused=count > 1 or draw(st.booleans()),
    seed=draw(st.integers(0, 2**32 - 1)),
  )


# No shrinking: each example is compiled, so it would take minutes.
search = settings(
  deadline=None, derandomize=True, phases=[Phase.generate], max_examples=3
)


@pytest.mark.slow
@search
@given(problems())
def test_all_forms_agree_on_any_input(problem):
  check_against_plain(problem, FORMS)


@pytest.mark.slow
@settings(search, max_examples=2)
@given(problems(only_narrow_grids=True))
def test_the_gpu_kernel_agrees_on_any_grid(problem):
  check_against_plain(problem, [('factored', GPU_KERNEL)])


@pytest.mark.parametrize('kernel', [GPU_KERNEL, TPU_KERNEL])
@pytest.mark.parametrize(
  'grid', quick.only([(6, 9)], [(5,), (6, 9), (2, 3, 4)])
)
def test_kernels_interpreted(grid, kernel):
  """Several blocks of queries and a mask; for images, two segments."""
  parts = (
    Part(grid, 3, 'axis', 0.5, bands=6 // len(grid)),
    Part((7,), 3, 'axis', bands=6),
  )
  count = 2 if len(grid) == 2 else 1
  problem = Problem(parts[:count], latents=10, heads=2, width=4)
  check_against_plain(problem, [('factored', kernel)])


@pytest.mark.parametrize('kernel', quick.only([None], [None, TPU_KERNEL]))
def test_each_device_of_a_mesh_attends_for_its_examples(kernel):
  part = Part((3, 5), 2, 'axis')
  query, inputs, parameters = arrays(
    Problem((part,), batch=4, latents=6, width=4, is_fused=False)
  )
  mesh = Mesh(np.array(jax.devices()[:2]), ('data',))
  split = NamedSharding(mesh, PartitionSpec('data'))
  run = functools.partial(value_and_gradients, form='factored', kernel=kernel)
  out, gradients = run(query, inputs, parameters)
  (whole,) = inputs.segments
  content = jax.device_put(whole.content, split)
  halves = perceiver.ByteArray((dataclasses.replace(whole, content=content),))
  split_out, others = run(
    jax.device_put(query, split), halves, parameters, mesh=mesh
  )
  assert len(split_out.sharding.device_set) == 2
  assert_close(split_out, out, 1e-6)
  assert_same_gradients(others, gradients, 1e-5)


def largest_array(jaxpr):
  """Returns the number of entries of the largest array in a program."""
  largest = 0
  for equation in jaxpr.eqns:
    sizes = [getattr(v.aval, 'size', 0) for v in equation.outvars]
    inner = [
      largest_array(x)
      for x in jax.extend.core.jaxprs_in_params(equation.params)
    ]
    largest = max(largest, *sizes, *inner)
  return largest


def test_neither_pass_keeps_rows_times_elements():
  """The traced gradient has no array as large as the N x M logits."""
  grid, latents = (64, 64), 256
  inputs = perceiver.ByteArray((grid_segment(jnp.zeros((1, *grid, 3)), 4),))
  query = jnp.zeros((1, latents, 1, 21))
  parameters = random_parameters(np.random.default_rng(0), 21, 21)

  def largest(form):
    program = jax.make_jaxpr(
      functools.partial(value_and_gradients, form=form, tile=4)
    )(query, inputs, parameters)
    return largest_array(program.jaxpr)

  logits = latents * 64 * 64
  assert largest('plain') >= logits
  assert largest('factored') <= logits // 8
  assert largest('no_kv') <= logits // 8


@pytest.mark.slow
def test_a_checkpoint_moves_between_the_forms(data):
  forms = ('plain', *OTHERS, 'auto')
  models = {form: build(single, attention=form) for form in forms}
  params = jax.jit(
    lambda key: {form: x.init(key, data) for form, x in models.items()}
  )(jax.random.key(0))
  for form in (*OTHERS, 'auto'):
    jax.tree.map(np.testing.assert_array_equal, params[form], params['plain'])
  logits = {
    form: jax.jit(model.apply)(params['plain'], None, data)
    for form, model in models.items()
  }
  for form in (*OTHERS, 'auto'):
    assert_close(logits[form], logits['plain'], 1e-5)


def program(**settings):
  """The traced model on images of 6 x 7 pixels."""
  data = {'image': jnp.zeros((2, 6, 7, 3))}
  model = build(single, **settings)
  params = jax.eval_shape(model.init, jax.random.key(0), data)
  return str(jax.make_jaxpr(model.apply)(params, None, data))


@pytest.mark.parametrize('form', ['plain', *OTHERS])
def test_inputs_are_prepared_once_for_all_cross_attends(form):
  """Layer norms are outside the scan over the shared cross-attends."""
  # Each layer norm over the 42 inputs has an inverse root.
  roots = [
    '42' in line.split('=')[0] or '6,7' in line.split('=')[0]
    for line in program(attention=form).splitlines()
    if ' rsqrt ' in line
  ]
  assert sum(roots) == 1


IMAGES = ((224, 224), 3)  # ImageNet's.
POINTS = ((2048,), 387)  # No axes, but wide enough to skip the keys.
PATCHES = ((16, 28, 28), 384)  # AudioSet's video.


@pytest.mark.parametrize(
  ('platform', 'segment', 'heads', 'form', 'has_kernel'),
  [
    (('cpu',), IMAGES, 1, 'factored', False),
    (('cpu',), POINTS, 1, 'no_kv', False),
    # With many heads, each query would meet all channels again.
    (('cpu',), POINTS, 8, 'plain', False),
    (('gpu',), IMAGES, 1, 'factored', True),
    # The kernel takes no wide content, and passes cost more than products.
    (('gpu',), PATCHES, 1, 'no_kv', False),
    (('gpu',), POINTS, 1, 'no_kv', False),
    (('tpu', 'TPU v5 lite'), IMAGES, 1, 'factored', True),
    (('tpu', 'TPU v5 lite'), PATCHES, 1, 'factored', True),
    (('tpu', 'TPU v5 lite'), POINTS, 1, 'no_kv', True),
    (('tpu', 'TPU v3'), IMAGES, 1, 'no_kv', False),
  ],
)
def test_auto_picks_by_structure_and_hardware_and_says_so(
  platform, segment, heads, form, has_kernel, caplog
):
  grid, channels = segment
  content = jnp.zeros((1, *grid, channels))
  part = grid_segment(content, 64)
  if segment is POINTS:
    part = perceiver.Segment(content, content[..., :0])
  inputs = perceiver.ByteArray((part,))
  choose = functools.partial(
    cross_attention.choose,
    inputs,
    512,
    heads,
    inputs.num_channels,
    mesh=reference.mesh_of(*platform),
  )
  method = choose()
  assert method.form == form
  assert (method.kernel is not None) == has_kernel
  assert f'inputs on {platform[0]}: {form}' in caplog.text
  assert (' by a kernel' in caplog.text) == has_kernel
  assert choose(use_kernel=False).kernel is None
  assert choose(form='plain').form == 'plain'


def test_tiles_are_even_and_fit_the_hardware():
  def tile(batch, num_queries, num_elements, hardware, axes=()):
    queries = Vectors(jnp.zeros((batch, num_queries, 4)), axes)
    elements = Elements(
      jnp.zeros((batch, 4, num_elements)), jnp.zeros(0), None, (num_elements,)
    )
    return choice.queries_per_tile((queries,), (elements,), HARDWARE[hardware])

  on_grid = (jnp.zeros(0),)
  assert tile(1, 512, 50_176, 'cpu', on_grid) == 8
  assert tile(64, 512, 50_176, 'cpu', on_grid) == 1
  assert tile(2, 16, 64, 'cpu') == 16
  for name in ('gpu', 'tpu'):
    rows = tile(8, 512, 50_176, name, on_grid)
    assert 1 < rows * 8 * 50_176 <= HARDWARE[name].tile_logits_on_grid
    assert tile(8, 512, 50_176, name) == 512  # No tile fits on the chip.


def test_the_tile_can_be_set():
  plain = program(attention='factored')
  assert plain != program(attention='factored', attention_tile=2)


def test_an_unknown_form_is_named():
  with pytest.raises(ValueError, match="attention='flash' is none of"):
    program(attention='flash')


@pytest.mark.parametrize('kernel', [None, GPU_KERNEL, TPU_KERNEL])
def test_an_empty_batch_has_gradients_too(kernel):
  nothing = perceiver.ByteArray((grid_segment(jnp.zeros((0, 3, 5, 2)), 2),))
  run = functools.partial(value_and_gradients, form='factored', kernel=kernel)
  out, gradients = jax.eval_shape(
    run,
    jnp.zeros((0, 6, 1, 4)),
    nothing,
    random_parameters(np.random.default_rng(0), 12, 4),
  )
  assert out.shape == gradients[0].shape == (0, 6, 1, 4)
  assert gradients[-1].shape == (4,)
