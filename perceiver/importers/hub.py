"""Folders of weights by the names of their repositories on a hub.

huggingface_hub downloads the files into its cache, and asks the hub for newer
ones each time. `weight_files` follows the links in that cache.
"""

import os
import pathlib
import re

from perceiver import weight_files
from perceiver.importers import image_processor
from perceiver.weight_files import CONFIG, INDEX, PathLike, TENSORS

# All that is read. `save_pretrained` names shards as in the last pattern.
FILES = [
  *(CONFIG, image_processor.FILE, TENSORS, INDEX),
  'model-*-of-*.safetensors',
]
_NAME = re.compile(r'(\w[\w.-]*/\w[\w.-]*)(?:@(.+))?', re.ASCII)


def find(source: PathLike, revision: str | None = None) -> PathLike:
  """Returns the folder of weights that a path or a name stands for.

  Args:
    source: a path, or the name of a repository on the hub, 'owner/name' or
      'owner/name@revision'. A path that exists wins, and a `pathlib.Path` is
      never a name.
    revision: a branch, a tag or a commit of the repository; None: the newest
      commit of its main branch.

  Returns:
    The path itself, or the repository's folder in the hub's cache. Files that
    are not there yet are downloaded. Without the network, or with
    HF_HUB_OFFLINE=1, it is the newest one in the cache.

  Raises:
    FileNotFoundError: if there is no such folder and no such repository or
      revision, or if the repository cannot be downloaded or has no safetensors.
    PermissionError: if access to the repository must be granted first.
    ValueError: if a path has a revision, or a name has two.
  """
  match = _NAME.fullmatch(source) if isinstance(source, str) else None
  if match is None or os.path.lexists(source):
    if revision is not None:
      raise ValueError(
        f'revision={revision!r} is for the name of a repository on a hub, but'
        f' {source} is a path.'
      )
    return source
  name, named_revision = match.groups()
  if revision is not None and named_revision is not None:
    raise ValueError(f'{source} names a revision, and so does {revision=}.')
  return _download(name, revision or named_revision)


def _download(name: str, revision: str | None) -> pathlib.Path:
  missing = f'There is no folder {name} here'
  try:
    import huggingface_hub
    from huggingface_hub import constants, errors
  except ImportError as error:
    raise FileNotFoundError(
      f"{missing}. If it is a repository on a hub: pip install -e '.[hub]'"
    ) from error
  hub = constants.ENDPOINT
  named = name if revision is None else f'{name}@{revision}'
  try:
    folder = pathlib.Path(
      huggingface_hub.snapshot_download(
        name, revision=revision, allow_patterns=FILES
      )
    )
  except errors.GatedRepoError as error:
    raise PermissionError(
      f'Access to {name} must be granted first: ask for it at {hub}/{name}, and'
      ' run `hf auth login`.'
    ) from error
  except errors.RevisionNotFoundError as error:
    raise FileNotFoundError(
      f'{name} on {hub} has no revision {revision!r}.'
    ) from error
  except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
    raise FileNotFoundError(
      f'{missing}, and no such repository on {hub}. If it is private, run'
      ' `hf auth login`.'
    ) from error
  except Exception as error:  # Also those of its HTTP library.
    reason = error.__cause__ or error
    why = f'{hub} does not give it: {type(reason).__name__}: {reason}'
    if constants.HF_HUB_OFFLINE:
      why = 'HF_HUB_OFFLINE forbids a download'
    raise FileNotFoundError(
      f'{missing}, the cache {constants.HF_HUB_CACHE} does not have'
      f' all of {named}, and {why.splitlines()[0]}.'
    ) from error
  if any((folder / x).exists() for x in (TENSORS, INDEX)):
    return folder
  try:
    info = huggingface_hub.model_info(name, revision=folder.name)
  except Exception:
    return folder  # Whoever reads it says what it lacks.
  files = [x.rfilename for x in info.siblings or ()]
  raise weight_files.missing(f'{name} on {hub}', TENSORS, files)
