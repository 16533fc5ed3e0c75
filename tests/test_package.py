"""The library as a package: its files, requirements and metadata."""

import email
import json
import sys
import tarfile
import zipfile

import pytest
import yaml

import perceiver
from tests import packages
from tests.conftest import ROOT

# Packages that only the laboratory needs. JAX and Haiku need others, like absl.
LABORATORY = (
  *('experiments', 'configs', 'scripts', 'tests'),
  *('optax', 'orbax', 'grain', 'ml_collections', 'tensorboardX', 'etils'),
  *('matplotlib', 'PIL', 'sklearn', 'tensorflow_datasets', 'jinja2', 'tqdm'),
  *('torch', 'transformers', 'pytest'),
)


@pytest.fixture(scope='module')
def wheel(distributions):
  (path,) = distributions.glob('*.whl')
  with zipfile.ZipFile(path) as file:
    yield file


@pytest.mark.slow
def test_the_wheel_is_the_library_alone(wheel):
  library = {
    str(path)
    for path in packages.tracked_files()
    if path.parts[0] == 'perceiver'
  }
  assert 'perceiver/py.typed' in library
  about = f'perceiver_haiku-{perceiver.__version__}.dist-info'
  assert set(wheel.namelist()) == library | {
    f'{about}/{name}'
    for name in (
      *('METADATA', 'RECORD', 'WHEEL', 'top_level.txt', 'licenses/LICENSE'),
    )
  }
  assert wheel.read(f'{about}/top_level.txt').split() == [b'perceiver']


@pytest.mark.slow
def test_the_sdist_has_what_a_wheel_is_built_from_and_no_more(distributions):
  (path,) = distributions.glob('*.tar.gz')
  with tarfile.open(path) as file:
    names = {x.name.split('/', 1)[1] for x in file if x.isfile()}
  names = {x for x in names if not x.startswith('perceiver')}
  assert names == {
    *('LICENSE', 'MANIFEST.in', 'PKG-INFO', 'README.md'),
    *('pyproject.toml', 'setup.cfg', 'setup.py'),
  }


@pytest.mark.slow
def test_the_metadata_say_whose_it_is(wheel):
  about = f'perceiver_haiku-{perceiver.__version__}.dist-info'
  metadata = email.message_from_bytes(wheel.read(f'{about}/METADATA'))
  assert metadata['Version'] == perceiver.__version__
  assert metadata['License-Expression'] == 'Apache-2.0'
  needed = [x for x in metadata.get_all('Requires-Dist') if 'extra' not in x]
  assert {x.split('>=')[0] for x in needed} == {
    *('dm-haiku', 'jax', 'jaxlib', 'numpy', 'safetensors'),
  }


SCRIPT = f"""
import importlib.util, json, pathlib
import haiku as hk
import jax
import numpy as np
import perceiver

def classify(images):
  positions = perceiver.fourier_axes((4, 5), num_bands=2)
  inputs = perceiver.ByteArray((perceiver.Segment(images, positions),))
  return perceiver.Perceiver(
    num_classes=3, num_latents=4, latent_channels=8, self_attend_heads=2
  )(inputs)

model = hk.without_apply_rng(hk.transform(classify))
images = np.random.default_rng(0).normal(size=(2, 4, 5, 3)).astype('f')
params = model.init(jax.random.key(0), images)
print(json.dumps({{
  'present': [x for x in {LABORATORY} if importlib.util.find_spec(x)],
  'place': str(pathlib.Path(perceiver.__file__).parent),
  'version': perceiver.__version__,
  'logits': np.asarray(model.apply(params, images)).tolist(),
}}))
"""


@pytest.mark.slow
def test_the_library_works_without_the_laboratory(library_python):
  result = json.loads(
    packages.run(
      # Isolated, so that it does not import missing modules from the checkout.
      *(library_python, '-I', '-W', 'error', '-c', SCRIPT)
    )
  )
  assert result['present'] == []
  assert 'site-packages' in result['place']
  assert result['version'] == perceiver.__version__
  one, other = result['logits']
  assert len(one) == len(other) == 3
  assert one != other


@pytest.mark.slow
def test_what_it_requires_goes_together(library_python):
  output = packages.run(
    *(sys.executable, '-m', 'pip', '--python', library_python, 'check')
  )
  assert 'No broken requirements found' in output


def test_the_citation_names_the_software_and_the_paper():
  citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text())
  # Both have the keys that https://citation-file-format.github.io requires.
  assert citation['cff-version'] == '1.2.0'
  assert citation['message']
  assert citation['title']
  assert citation['authors']
  assert citation['version'] == perceiver.__version__
  assert citation['license'] == 'Apache-2.0'
  paper = citation['preferred-citation']
  assert paper['type'] == 'conference-paper'
  assert paper['title'].startswith('Perceiver: General Perception')
  assert [x['family-names'] for x in paper['authors']] == [
    *('Jaegle', 'Gimeno', 'Brock', 'Zisserman', 'Vinyals', 'Carreira'),
  ]


def test_the_changelog_has_this_version():
  changelog = (ROOT / 'CHANGELOG.md').read_text()
  assert f'## [{perceiver.__version__}]' in changelog
