"""Installs the library; the laboratory runs from the checkout."""

import pathlib
import re

import setuptools

ROOT = pathlib.Path(__file__).parent
VERSION = re.search(
  r"__version__ = '(.+)'", (ROOT / 'perceiver/__init__.py').read_text()
).group(1)

EXPERIMENTS = [
  'absl-py>=2.3',
  'array_record>=0.8.6',  # Earlier ones lack options for random access.
  'etils[epath]>=1.13',
  'grain==0.2.18',  # Pinned: 0.2.17 changed the order of its shuffle.
  'importlib_resources>=6.5',
  'jinja2>=3.1',
  'matplotlib>=3.10',
  'ml-collections>=1.1',
  'optax>=0.2.6',
  'orbax-checkpoint>=0.12.8',
  'packaging>=24.2',
  'pillow>=12.2',
  'psutil>=7.0',
  'scikit-learn>=1.6',
  'tensorboardX>=2.6.2',
  'tensorflow-datasets>=4.9.10',
  'tqdm>=4.67',
]
AUDIOSET = [
  'av>=18.1',  # 18.0 crashes on truncated streams.
  'pebble>=5.1',
  'tqdm>=4.67',
]
DOCS = [
  'latex2mathml>=3.78',
  'mkdocs-material>=9.7',
  'mkdocstrings-python>=2.0',
]
GCS = ['gcsfs>=2026.6']  # Workdirs and data on gs://.
HUB = ['huggingface_hub>=1.0']  # Weights by the name of their repository.
MODELNET40 = ['h5py>=3.13', 'plyfile>=1.1', 'tqdm>=4.67']
TFRECORD = ['google-crc32c>=1.6']  # ImageNet as TFDS's TFRecord files.
PARQUET = ['pyarrow>=20.0']  # ImageNet as on Hugging Face.
TEST = [
  'build>=1.3',
  'gcp-storage-emulator>=2026.7',
  'hypothesis>=6.130',
  'import-linter>=2.5',
  'ipykernel>=7.0',
  'librosa>=0.11',
  'mypy>=1.18',
  'nbclient>=0.10',
  'nbformat>=5.10',
  'pytest>=8.4',
  'pytest-xdist>=3.8',
  'ruff>=0.14',
  'xprof>=2.20',
]

setuptools.setup(
  name='perceiver-haiku',  # PyPI's `perceiver` is another project.
  version=VERSION,
  description='Perceiver: General Perception with Iterative Attention',
  long_description=(ROOT / 'README.md').read_text(),
  long_description_content_type='text/markdown',
  author='The perceiver-haiku authors',
  license_expression='Apache-2.0',
  license_files=['LICENSE'],
  keywords=['perceiver', 'attention', 'transformer', 'jax', 'haiku'],
  classifiers=[
    'Development Status :: 4 - Beta',
    'Intended Audience :: Science/Research',
    'Programming Language :: Python :: 3',
    'Programming Language :: Python :: 3 :: Only',
    'Programming Language :: Python :: 3.11',
    'Programming Language :: Python :: 3.12',
    'Programming Language :: Python :: 3.13',
    'Topic :: Scientific/Engineering :: Artificial Intelligence',
    'Typing :: Typed',
  ],
  packages=setuptools.find_packages(include=['perceiver', 'perceiver.*']),
  package_data={
    'perceiver': ['py.typed'],
    'perceiver.importers': ['imagenet_classes.txt'],
  },
  python_requires='>=3.11',
  install_requires=[
    'dm-haiku>=0.0.16',
    'jax>=0.10',
    'jaxlib>=0.10',
    'numpy>=2.0',
    'safetensors>=0.5',
  ],
  extras_require={
    'audioset': AUDIOSET,
    'docs': DOCS,
    'experiments': EXPERIMENTS,
    'gcs': GCS,
    'hub': HUB,
    'modelnet40': MODELNET40,
    'parquet': PARQUET,
    'tfrecord': TFRECORD,
    'test': [
      *(*EXPERIMENTS, *AUDIOSET, *GCS, *HUB, *MODELNET40, *PARQUET, *TFRECORD),
      *(*DOCS, *TEST),
    ],
    'peers': [
      *('perceiver-pytorch>=0.8.8', 'torch>=2.6', 'torchvision>=0.21'),
      'transformers>=4.56',
    ],
  },
)
