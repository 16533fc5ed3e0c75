"""A store of objects on this machine, which answers as Google's does."""

from collections.abc import Iterator
import contextlib
import socket
import subprocess
import sys
import time

BUCKET = 'runs'


class Store:
  """One that answers at an address, HOST:PORT."""

  def __init__(self, address: str):
    self.address = address

  @property
  def environment(self) -> dict[str, str]:
    """What sends gcsfs, tensorstore and array_record there."""
    url = f'http://{self.address}'
    return {
      'STORAGE_EMULATOR_HOST': url,
      'TENSORSTORE_GCS_HTTP_URL': url,
      'CLOUD_STORAGE_EMULATOR_ENDPOINT': url,
    }

  def url(self, path: str) -> str:
    """Of an object or a folder in its one bucket."""
    return f'gs://{BUCKET}/{path}'


@contextlib.contextmanager
def running() -> Iterator[Store]:
  """An empty store in memory, in a process that ends with the context."""
  host, port = free_address()
  process = subprocess.Popen(
    [
      *(sys.executable, '-m', 'gcp_storage_emulator', 'start', '--quiet'),
      *(f'--host={host}', f'--port={port}', '--in-memory'),
      f'--default-bucket={BUCKET}',
    ],
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )
  try:
    while not _answers(host, port):
      if process.poll() is not None:
        raise RuntimeError(
          f'gcp-storage-emulator ended with status {process.returncode}.'
        )
      time.sleep(0.02)
    yield Store(f'{host}:{port}')
  finally:
    process.kill()
    process.wait()


def free_address() -> tuple[str, int]:
  """This machine's own address, and a port that nobody listens at."""
  with socket.socket() as s:
    s.bind(('127.0.0.1', 0))
    host, port = s.getsockname()
  return host, port


def _answers(host: str, port: int) -> bool:
  with socket.socket() as s:
    return s.connect_ex((host, port)) == 0
