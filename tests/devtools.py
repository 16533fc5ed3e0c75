"""Headless Chromium as a process that takes commands over a pair of pipes.

It speaks the DevTools protocol,
https://chromedevtools.github.io/devtools-protocol/, in JSON messages that end
in NUL. `--remote-debugging-pipe` needs no websocket.
"""

import contextlib
import json
import os
import pathlib
import select
import shutil
import signal
import subprocess
import tempfile
import time

import pytest

NAMES = ('chromium', 'chromium-browser', 'google-chrome')
TIMEOUT = 300  # Seconds; a guard against hanging, nothing is timed by it.
FLAGS = (
  '--headless=new',
  '--remote-debugging-pipe',
  '--no-sandbox',  # Root cannot use the sandbox.
  '--host-resolver-rules=MAP * ~NOTFOUND',  # Nothing comes from outside,
  '--no-proxy-server',  # nor through a proxy.
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-extensions',
  '--disable-sync',
  '--disable-breakpad',
  '--disable-dev-shm-usage',  # Containers have 64 MiB of it.
  '--disable-gpu',
  '--disable-lcd-text',  # Grey edges of letters, not colored ones.
  '--force-color-profile=srgb',
  '--hide-scrollbars',
  '--no-first-run',
)


def find():
  """Returns the path of $CHROMIUM, or of Chromium or Chrome; None without."""
  names = [os.environ['CHROMIUM']] if 'CHROMIUM' in os.environ else NAMES
  return next(filter(None, map(shutil.which, names)), None)


def find_or_skip():
  """Like `find`, but without a browser skips the test; in CI it fails."""
  if (path := find()) is None:
    missing = pytest.fail if os.environ.get('CI') == 'true' else pytest.skip
    missing('needs a browser: apt-get install chromium, or set $CHROMIUM')
  return path


class Chromium:
  """One process; as a context manager it ends it with all its children."""

  def __init__(self, executable):
    self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    self._log = pathlib.Path(self._profile.name) / 'stderr'
    # The shell puts the pipes where Chromium looks for them, at 3 and 4. A
    # `preexec_fn` could do so, too, but JAX warns of forks.
    shell = 'exec "$@" 3<&0 4>&1 </dev/null >/dev/null 2>"$0"'
    self.process = subprocess.Popen(
      [
        *('sh', '-c', shell, self._log, executable, *FLAGS),
        *(f'--user-data-dir={self._profile.name}', 'about:blank'),
      ],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      bufsize=0,
      start_new_session=True,
    )
    self._poll = select.poll()
    self._poll.register(self.process.stdout, select.POLLIN)
    self._parts = []  # The parts so far of an incomplete message.
    self._count = 0
    self._replies = {}  # By the number of the message.
    self._listeners = {}  # By session.
    self._contexts = []

  def __enter__(self):
    return self

  def __exit__(self, *_):
    try:
      self.send('Browser.close')
      self.process.wait(TIMEOUT)
    except Exception:  # It hangs or has ended.
      self.process.kill()
    finally:
      self.process.wait()
      # Its children may outlive it.
      with contextlib.suppress(ProcessLookupError):
        os.killpg(self.process.pid, signal.SIGKILL)
      self.process.stdin.close()
      self.process.stdout.close()
      self._profile.cleanup()

  def send(self, method, session=None, **params):
    """Sends a command and returns the reply; RuntimeError if it is an error."""
    self._count += 1
    number = self._count
    message = {'id': number, 'method': method, 'params': params}
    if session:
      message['sessionId'] = session
    data = memoryview(json.dumps(message).encode() + b'\0')
    with contextlib.suppress(BrokenPipeError):  # `wait` raises a clearer error.
      while data:
        data = data[self.process.stdin.write(data) :]
    self.wait(lambda: number in self._replies, method)
    reply = self._replies.pop(number)
    if 'error' in reply:
      raise RuntimeError(f'{method}: {reply["error"]["message"]}')
    return reply['result']

  def wait(self, done, what):
    """Reads messages until done() is true; TimeoutError names `what`."""
    deadline = time.monotonic() + TIMEOUT
    while not done():
      if not self._poll.poll(max(0, deadline - time.monotonic()) * 1000):
        raise TimeoutError(f'{what} took over {TIMEOUT} s')
      if not (data := self.process.stdout.read(1 << 16)):
        log = self._log.read_text(errors='replace')[-2000:]
        raise RuntimeError(f'Chromium ended during {what}: {log}')
      self._parts.append(data)
      if b'\0' not in data:  # A picture has hundreds of parts.
        continue
      *messages, rest = b''.join(self._parts).split(b'\0')
      self._parts = [rest]
      for message in map(json.loads, messages):
        if 'id' in message:
          self._replies[message['id']] = message
        elif hear := self._listeners.get(message.get('sessionId')):
          hear(message['method'], message['params'])

  def new_session(self):
    """Returns the session of an empty page with its own profile."""
    context = self.send('Target.createBrowserContext')['browserContextId']
    self._contexts.append(context)
    page = {'url': 'about:blank', 'browserContextId': context}
    target = self.send('Target.createTarget', **page)['targetId']
    attached = self.send('Target.attachToTarget', targetId=target, flatten=True)
    return attached['sessionId']

  def close_sessions(self):
    self._listeners.clear()
    while self._contexts:
      context = self._contexts.pop()
      self.send('Target.disposeBrowserContext', browserContextId=context)

  def listen(self, session, hear):
    """Calls hear(event, params) for each event of the session."""
    self._listeners[session] = hear
