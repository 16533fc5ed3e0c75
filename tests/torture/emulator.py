"""A store of objects on this machine, which answers as Google's does.

As a script this file is the server: gcp-storage-emulator with what it lacks.
tensorstore needs generations of objects: without them two writers of an object
overwrite each other unnoticed. array_record asks for the last bytes of objects.
"""

from collections.abc import Iterator
import contextlib
import re
import socket
import subprocess
import sys
import time
import urllib.parse

BUCKET = 'runs'


class Store:
  """A store that answers at an address, HOST:PORT."""

  def __init__(self, address: str):
    self.address = address

  @property
  def environment(self) -> dict[str, str]:
    """Variables that send gcsfs, tensorstore and array_record there."""
    url = f'http://{self.address}'
    return {
      'STORAGE_EMULATOR_HOST': url,
      'TENSORSTORE_GCS_HTTP_URL': url,
      'CLOUD_STORAGE_EMULATOR_ENDPOINT': url,
      # Otherwise tensorstore looks for the user's own token.
      'GOOGLE_AUTH_TOKEN_FOR_TESTING': 'none',
    }

  def url(self, path: str) -> str:
    """Returns the URL of an object or a folder in its one bucket."""
    return f'gs://{BUCKET}/{path}'


@contextlib.contextmanager
def running() -> Iterator[Store]:
  """Yields an empty store, in a process that ends with the context."""
  host, port = free_address()
  process = subprocess.Popen(
    [
      *(sys.executable, __file__, 'start', '--quiet'),
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
  """Returns this machine's own address, and a port that is free."""
  with socket.socket() as s:
    s.bind(('127.0.0.1', 0))
    host, port = s.getsockname()
  return host, port


def _answers(host: str, port: int) -> bool:
  with socket.socket() as s:
    return s.connect_ex((host, port)) == 0


def _serve() -> None:
  from gcp_storage_emulator import __main__, exceptions, server

  class Handler(server.RequestHandler):
    """Answers one request at a time, so that no two interleave."""

    def _query(self) -> dict[str, list[str]]:
      return urllib.parse.parse_qs(urllib.parse.urlparse(self.path).query)

    def _object(self) -> dict[str, str]:
      """Returns the fields of the requested object, if there is one."""
      path = urllib.parse.urlparse(self.path).path
      found = re.search('/b/([^/]+)/o(?:/([^/]+))?$', path)
      if found is None:
        return {'generation': '0'}
      name = urllib.parse.unquote(found[2] or '')
      name = name or self._query().get('name', [''])[0]
      try:
        return self.storage.get_file_obj(found[1], name)
      except exceptions.NotFound:
        return {'generation': '0'}

    def parse_request(self) -> bool:
      """Returns False if the request's conditions are not met."""
      if not super().parse_request():
        return False
      if last := re.fullmatch(r'bytes=-(\d+)', self.headers.get('Range', '')):
        start = max(0, int(self._object().get('size', 0)) - int(last[1]))
        self.headers.replace_header('Range', f'bytes={start}-')
      query, there = self._query(), self._object()['generation']
      is_same = query.get('ifGenerationMatch', [there]) == [there]
      if is_same and query.get('ifGenerationNotMatch') != [there]:
        return True
      self.rfile.read(int(self.headers.get('Content-Length', 0)))
      self.send_response(304 if is_same and self.command == 'GET' else 412)
      self.send_header('Content-Length', '0')
      self.end_headers()
      return False

    def end_headers(self) -> None:
      if (
        self.command == 'GET' and (there := self._object()['generation']) != '0'
      ):
        self.send_header('x-goog-generation', there)
      super().end_headers()

  server.RequestHandler = Handler
  __main__.main(sys.argv[1:])


if __name__ == '__main__':
  _serve()
