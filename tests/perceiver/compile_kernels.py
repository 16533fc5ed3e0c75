"""Compiles the kernels for targets, where their compilers are installed.

  python -m tests.perceiver.compile_kernels TARGET …

prints a line of JSON for each target: what kernels its programs have, and for
GPUs their registers and spills. All cases are compiled for the first one; for
the others images and latents.
"""

import json
import math
from pathlib import Path
import re
import sys
import tempfile

import jax
import jax.numpy as jnp
import numpy as np

from perceiver.ops import self_attention
from perceiver.ops.cross_attention import factored, hardware
from perceiver.ops.cross_attention.elements import Elements, Vectors
from scripts.plan import environment, ptx, targets

NAMES = re.compile(
  r'(?:cross|self)_attention_(?:forward|backward|elements)\b|__cudnn\$\w+'
)
# Grid, whether it has axes, columns and their dtype, whether there is a mask.
CASES = {
  'images': ((224, 224), True, 4, 'float32', False),
  'patches': ((16, 28, 28), True, 385, 'bfloat16', True),
  'patches in float32': ((4, 28, 28), True, 385, 'float32', False),
  'sound': ((480,), True, 129, 'bfloat16', True),
  'points': ((2048,), False, 388, 'bfloat16', False),
}


def attention(device: jax.Device, case: str):
  """Lowers the core and its gradients, if the kernel takes the case."""
  grid, has_axes, num_columns, dtype, has_mask = CASES[case]
  facts = hardware.HARDWARE[device.platform]
  if not facts.kernel.suits(grid, has_axes, num_columns):
    return None
  kernel = factored.Kernel(facts.kernel)
  size = math.prod(grid)
  split = jax.sharding.SingleDeviceSharding(device)
  shaped = lambda *shape, dtype=jnp.float32: jax.ShapeDtypeStruct(
    shape, dtype, sharding=split
  )
  axes = tuple(shaped(2, 512, n) for n in grid) if has_axes else ()
  queries = Vectors(shaped(2, 512, num_columns), axes)
  elements = Elements(
    shaped(2, num_columns, size, dtype=dtype),
    shaped(2, size),
    shaped(2, size, dtype=bool) if has_mask else None,
    grid,
  )

  def gradients(queries, elements, cotangents):
    def attend(queries, columns, scale):
      new = Elements(columns, scale, elements.mask, grid)
      return factored.attend((queries,), (new,), 1, kernel)[0]

    _, transpose = jax.vjp(attend, queries, elements.columns, elements.scale)
    return transpose(cotangents)

  # Without a mesh, Triton's compiler would look for a local GPU.
  mesh = jax.sharding.Mesh(np.array([device]), ('data',)).abstract_mesh
  with jax.sharding.use_abstract_mesh(mesh):
    return jax.jit(gradients).lower(queries, elements, queries)


def latents(device: jax.Device, form: str):
  """Lowers self-attention and its gradients."""
  mesh = jax.sharding.Mesh(np.array([device]), ('data',))
  attend = self_attention.choose(form, 512, 1024, 8, 'bfloat16', mesh=mesh)
  split = jax.sharding.SingleDeviceSharding(device)
  x = jax.ShapeDtypeStruct((2, 512, 1024), jnp.bfloat16, sharding=split)

  def gradients(query, key, value, cotangent):
    out, transpose = jax.vjp(attend, query, key, value)
    return out, transpose(cotangent)

  with targets.with_cudnn():
    return jax.jit(gradients).lower(x, x, x, x)


def main(names: list[str]) -> None:
  for name in names:
    target = targets.parse(name)
    device = targets.devices(target)[0]
    cases = CASES if name == names[0] else ['images']
    programs = {case: attention(device, case) for case in cases}
    form = {'tpu': 'mosaic', 'gpu': 'cudnn'}[target.platform]
    programs['latents'] = latents(device, form)
    found: dict[str, list] = {}
    with tempfile.TemporaryDirectory() as dump:
      for case, lowered in programs.items():
        if lowered is None:
          continue
        options = {} if target.platform == 'tpu' else ptx.dumping(dump)
        text = lowered.compile(compiler_options=options).as_text()
        found[case] = sorted(set(NAMES.findall(text)))
      kernels = []
      if target.platform == 'gpu':
        names_found = {name for names in found.values() for name in names}
        kernels = [
          vars(kernel)
          for kernel in ptx.kernels(
            Path(dump),
            names_found,
            target.hardware.architecture,
            environment.inside(),
          )
        ]
    print(json.dumps({'target': name, 'cases': found, 'kernels': kernels}))


if __name__ == '__main__':
  main(sys.argv[1:])
