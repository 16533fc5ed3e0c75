"""The file system for gs://: gcsfs, which here waits for a store that is down.

gcsfs alone gives a request six tries, in half a minute, and its errors do not
name the object. Here a store that is down, slow or asks for patience (429, 503)
delays a run for up to `PATIENCE` and does not end it, which
tests/experiments/test_failing_store.py shows. tensorstore, which writes the
arrays of checkpoints, waits as long by itself.
"""

import asyncio
import logging
import random
import re
import time
from typing import Any
import urllib.parse

import aiohttp
import gcsfs.core
import gcsfs.retry
import google.auth.exceptions
import requests

log = logging.getLogger(__name__)

PATIENCE = 900.0  # Seconds for which a request is tried.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 32.0  # Seconds between two tries.
# Seconds of one try: to connect, without an answer, and in all.
TIMEOUT = aiohttp.ClientTimeout(sock_connect=30, sock_read=60, total=300)
TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})  # HTTP statuses.

_request_once = gcsfs.core.GCSFileSystem._request.__wrapped__


class FileSystem(gcsfs.core.GCSFileSystem):
  """Google's object store as a file system of fsspec.

  A request that fails raises an OSError that names the object. The base class
  is gcsfs's own without its additions for zonal buckets, which ask Google for
  the kind of each bucket.
  """

  # Limits of each try. gcsfs sets it to its own argument, which is ignored.
  requests_timeout = property(lambda self: TIMEOUT, lambda self, value: None)

  def __init__(self, **options: Any):
    # A cached listing would hide what other processes write.
    super().__init__(**options | {'use_listings_cache': False})
    self._is_waiting = False
    self._has_given_up = False

  async def _request(
    self, method: str, path: str, *parts: str, **options: Any
  ) -> Any:
    if isinstance(options.get('data'), bytes | memoryview):
      # aiohttp warns about a large body that is not a stream. This one can be
      # read again by the next try.
      options['data'] = gcsfs.core.UnclosableBytesIO(options['data'])
    start, pause, tries = time.monotonic(), FIRST_PAUSE, 0
    while True:
      tries += 1
      try:
        answer = await _request_once(self, method, path, *parts, **options)
        break
      except FileNotFoundError:
        if method == 'DELETE' and tries > 1:  # An earlier answer was lost.
          return 204, {}, None, b''
        raise
      except Exception as error:
        if not _may_pass(error):
          if isinstance(error, gcsfs.retry.HttpError) and error.code != 416:
            kind = PermissionError if error.code == 401 else OSError
            raise kind(f'{_name(path, parts)}: {_told(error)}') from error
          raise
        waited = time.monotonic() - start
        if self._has_given_up or waited + pause > PATIENCE:
          self._has_given_up = True  # Later requests do not wait again.
          raise OSError(
            f'{_name(path, parts)}: no answer in {waited:.0f} s; the last'
            f' of {tries} tries: {_told(error)}'
          ) from error
        if tries == 2 and not self._is_waiting:
          self._is_waiting = True
          log.warning(
            '%s: %s. Trying again, for %d minutes.',
            *(_name(path, parts), _told(error), PATIENCE / 60),
          )
      await asyncio.sleep(pause * random.uniform(0.5, 1))
      pause = min(2 * pause, LONGEST_PAUSE)
    self._has_given_up = False
    if self._is_waiting:
      self._is_waiting = False
      log.warning('The store answers again.')
    return answer

  async def _isdir(self, path: str) -> bool:
    try:
      return (await self._info(path))['type'] == 'directory'
    except FileNotFoundError:  # gcsfs would say no without an answer.
      return False

  async def _isfile(self, path: str) -> bool:
    try:
      return (await self._info(path))['type'] == 'file'
    except FileNotFoundError:
      return False

  async def _delete_files(self, files: list[str], batchsize: int) -> list[Any]:
    """Deletes files one by one: gcsfs gives a batch only five tries."""
    del batchsize
    return await gcsfs.core.asyn._run_coros_in_chunks(
      [self._rm_file(file) for file in files],
      return_exceptions=True,
      batch_size=16,
    )

  def check(self, bucket: str) -> None:
    """Raises OSError if a bucket does not exist or may not be listed."""
    self.call('GET', 'b/{}/o', bucket, maxResults=1)


def _may_pass(error: Exception) -> bool:
  """Returns whether the same request may succeed later."""
  if isinstance(error, gcsfs.retry.HttpError):
    return int(error.code or 0) in TRANSIENT
  if isinstance(error, google.auth.exceptions.GoogleAuthError):
    return error.retryable
  return isinstance(
    error,
    aiohttp.ClientError
    | requests.RequestException
    | ConnectionError
    | TimeoutError
    | gcsfs.retry.ChecksumError,
  )


def _told(error: Exception) -> str:
  return str(error).strip(' ,\n') or type(error).__name__


def _name(path: str, parts: tuple[str, ...]) -> str:
  """Returns the gs://BUCKET/OBJECT of a request, or as much as it says."""
  if path.startswith('b/') and parts:
    return f'gs://{"/".join(map(str, parts))}'
  bucket = re.search('/b/([^/]+)/o', path)
  return f'gs://{urllib.parse.unquote(bucket[1])}' if bucket else path
