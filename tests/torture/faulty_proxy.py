"""A proxy of a store that does to requests what networks do to them.

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
  """A store that can be made to fail; at first it works."""

  def __init__(self, store: str):
    """Listens at a free address; `store` is the address of the store."""
    host, self._port = emulator.free_address()
    super().__init__(f'{host}:{self._port}')
    self._host = host
    self._store = store
    # What is done to a request; returns whether it is done with.
    self._fault: Callable[[_Handler], bool] | None = None
    self._met = 0  # Requests that met the present fault.
    self._changed = threading.Condition()
    self._ended = threading.Event()
    self._server: _Server | None = None
    self._listen()

  def fail(self, status: int) -> None:
    """Answers requests with a status, such as 503 or 429."""
    self._meet(lambda handler: handler.answer(status, {}, b''))

  def hang(self) -> None:
    """Takes requests and never answers them, not even after `heal`."""
    self._meet(lambda handler: self._ended.wait())

  def reset(self) -> None:
    """Ends connections without an answer."""
    self._meet(lambda handler: True)

  def refuse(self) -> None:
    """Stops listening."""
    self.reset()  # For open connections.
    self._stop()

  def heal(self) -> None:
    """Works again."""
    self._meet(None)
    self._listen()

  def wait_for(self, requests: int, timeout: float = 60) -> bool:
    """Returns whether so many requests met the present fault in time."""
    with self._changed:
      return self._changed.wait_for(lambda: self._met >= requests, timeout)

  def close(self) -> None:
    self._ended.set()
    self._stop()

  def handle(self, handler: '_Handler', body: bytes) -> None:
    """Answers a request as the store does, unless a fault is set."""
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
  block_on_close = False  # Some threads hang, as `hang` asks.
  request_queue_size = 128

  def handle_error(self, request: object, client_address: object) -> None:
    """Says nothing: clients may leave, or be killed, at any time."""


class _Handler(http.server.BaseHTTPRequestHandler):
  protocol_version = 'HTTP/1.1'

  def __init__(self, proxy: Proxy, *arguments: object):
    self._proxy = proxy
    super().__init__(*arguments)  # type: ignore[arg-type]

  def answer(self, status: int, headers: dict[str, str], body: bytes) -> bool:
    """Sends an answer; returns True: the request is done with."""
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
    """Reads the whole body; a chunked one is sent on in one piece."""
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
    """Says nothing: the store's clients say what they see."""


@contextlib.contextmanager
def running(store: str) -> Iterator[Proxy]:
  """Yields a proxy of the store at an address, HOST:PORT."""
  proxy = Proxy(store)
  try:
    yield proxy
  finally:
    proxy.close()
