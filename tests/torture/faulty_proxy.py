"""Stands before a store, and does to requests what networks do to them.

with emulator.running() as store, faulty_proxy.running(store.address) as proxy:
  proxy.fail(503)
  …
  proxy.heal()
"""

from collections.abc import Callable, Iterator
import contextlib
import functools
import http.client
import http.server
import threading

from tests.torture import emulator


class Proxy(emulator.Store):
  """A store that can be made to fail; sound at first."""

  def __init__(self, store: str):
    """Listens for a store at another address."""
    host, self._port = emulator.free_address()
    super().__init__(f'{host}:{self._port}')
    self._host = host
    self._store = store
    # What a request meets; it says whether that was all.
    self._fault: Callable[[_Handler], bool] | None = None
    self._met = 0  # Requests that met the present fault.
    self._changed = threading.Condition()
    self._ended = threading.Event()
    self._server: _Server | None = None
    self._listen()

  def fail(self, status: int) -> None:
    """Requests are answered with a status, such as 503 or 429."""
    self._meet(lambda handler: handler.answer(status, {}, b''))

  def hang(self) -> None:
    """Requests are taken and never answered, not even after `heal`."""
    self._meet(lambda handler: self._ended.wait())

  def slow(self, seconds: float) -> None:
    """Each request takes so much longer."""
    self._meet(lambda handler: self._ended.wait(seconds))

  def reset(self) -> None:
    """Connections end without an answer."""
    self._meet(lambda handler: True)

  def refuse(self) -> None:
    """Nobody listens any more."""
    self.reset()  # Of connections that there are.
    self._stop()

  def heal(self) -> None:
    """All is well again."""
    self._meet(None)
    self._listen()

  def wait_for(self, requests: int, timeout: float = 60) -> bool:
    """Waits until so many have met the present fault; whether they have."""
    with self._changed:
      return self._changed.wait_for(lambda: self._met >= requests, timeout)

  def close(self) -> None:
    self._ended.set()
    self._stop()

  def handle(self, handler: '_Handler', body: bytes) -> None:
    """What becomes of a request."""
    with self._changed:
      fault = self._fault
      if fault is not None:
        self._met += 1
        self._changed.notify_all()
    if (fault is not None and fault(handler)) or self._ended.is_set():
      handler.close_connection = True
      return
    store = http.client.HTTPConnection(self._store)
    try:
      store.request(
        handler.command, handler.path, body, dict(handler.headers.items())
      )
      answer = store.getresponse()
      handler.answer(answer.status, dict(answer.getheaders()), answer.read())
    finally:
      store.close()

  def _meet(self, fault: 'Callable[[_Handler], bool] | None') -> None:
    with self._changed:
      self._fault, self._met = fault, 0

  def _listen(self) -> None:
    if self._server is None:
      handler = functools.partial(_Handler, self)
      self._server = _Server((self._host, self._port), handler)
      threading.Thread(
        target=self._server.serve_forever, args=[0.02], daemon=True
      ).start()

  def _stop(self) -> None:
    if self._server is not None:
      self._server.shutdown()
      self._server.server_close()
      self._server = None


class _Server(http.server.ThreadingHTTPServer):
  daemon_threads = True
  block_on_close = False  # Some threads hang, as they are told to.
  request_queue_size = 128

  def handle_error(self, request: object, client_address: object) -> None:
    """Clients may leave, or be killed, as they like."""


class _Handler(http.server.BaseHTTPRequestHandler):
  protocol_version = 'HTTP/1.1'

  def __init__(self, proxy: Proxy, *arguments: object):
    self._proxy = proxy
    super().__init__(*arguments)  # type: ignore[arg-type]

  def answer(self, status: int, headers: dict[str, str], body: bytes) -> bool:
    """Sends an answer; True: the request is done with."""
    self.send_response(status)
    for name, value in headers.items():
      if name.lower() not in ('connection', 'transfer-encoding'):
        self.send_header(name, value)
    if 'content-length' not in map(str.lower, headers):
      self.send_header('Content-Length', str(len(body)))
    self.end_headers()
    self.wfile.write(body)
    return True

  def _do(self) -> None:
    self._proxy.handle(self, self._body())

  do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _do

  def _body(self) -> bytes:
    """The request's, whole; a chunked one is sent on in one piece."""
    if self.headers.get('Transfer-Encoding', '').lower() != 'chunked':
      return self.rfile.read(int(self.headers.get('Content-Length', 0)))
    body = b''
    while size := int(self.rfile.readline(), 16):
      body += self.rfile.read(size)
      self.rfile.readline()
    self.rfile.readline()
    del self.headers['Transfer-Encoding']
    self.headers['Content-Length'] = str(len(body))
    return body

  def log_message(self, format: str, *arguments: object) -> None:
    """Nothing: the store's clients say what they see."""


@contextlib.contextmanager
def running(store: str) -> Iterator[Proxy]:
  """A proxy before the store at an address, HOST:PORT."""
  proxy = Proxy(store)
  try:
    yield proxy
  finally:
    proxy.close()
