"""A hub on this machine, which speaks the protocol of the real one.

It has what `huggingface_hub.snapshot_download` asks for:

  /api/models/NAME[/revision/REVISION]    the commit of a revision
  /api/models/NAME/tree/COMMIT            the files of a commit
  /NAME/resolve/COMMIT/FILE               a file; large ones are elsewhere
  /files/HASH                             the large ones, as at the real one
"""

from collections.abc import Iterator, Mapping
import contextlib
import dataclasses
import hashlib
import http.server
import json
import re
import threading
import urllib.parse

LARGE = '.safetensors'


@dataclasses.dataclass
class Hub:
  """A running hub, and what was asked of it."""

  url: str
  # Files by name, by commit, by name of the repository.
  repositories: Mapping[str, Mapping[str, Mapping[str, bytes]]]
  branches: Mapping[str, str]  # Commits by branch, for all repositories.
  gated: str  # A repository whose files nobody may have.
  requests: list[str] = dataclasses.field(default_factory=list)

  def environment(self, home) -> dict[str, str]:
    """Variables for processes that use the hub, with an empty home."""
    return {
      'HF_ENDPOINT': self.url,
      'HF_HOME': str(home),
      'HF_HUB_OFFLINE': '0',
      'HF_HUB_DISABLE_PROGRESS_BARS': '1',
      'NO_PROXY': '127.0.0.1,localhost',
    }

  def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
    """Returns status, headers and body for a path."""
    if match := re.fullmatch(r'/files/(\w+)', path):
      return 200, {'ETag': f'"{match[1]}"'}, self._large()[match[1]]
    match = re.fullmatch(
      r'/(?:api/models/)?(\w+/[\w-]+)(?:/(revision|tree|resolve)/(.+))?', path
    )
    name, kind, rest = match.groups() if match else ('', None, None)
    if name not in self.repositories:
      return 404, {'X-Error-Code': 'RepoNotFound'}, b''
    kind, rest = kind or 'revision', rest or 'main'
    revision, _, file = (
      rest.partition('/') if kind == 'resolve' else (rest, '', '')
    )
    commits = self.repositories[name]
    commit = self.branches.get(revision, revision)
    if commit not in commits:
      return 404, {'X-Error-Code': 'RevisionNotFound'}, b''
    files = commits[commit]
    if kind == 'revision':
      siblings = [{'rfilename': x} for x in files]
      return _json({'id': name, 'sha': commit, 'siblings': siblings})
    if kind == 'tree':
      return _json([_entry(x, content) for x, content in files.items()])
    if name == self.gated:
      return 403, {'X-Error-Code': 'GatedRepo'}, b''
    if file not in files:
      return 404, {'X-Error-Code': 'EntryNotFound'}, b''
    content, headers = files[file], {'X-Repo-Commit': commit}
    if not file.endswith(LARGE):
      return 200, headers | {'ETag': f'"{_git_hash(content)}"'}, content
    linked = _sha256(content)
    elsewhere = self.url.replace('127.0.0.1', 'localhost')
    headers |= {
      'ETag': '"a redirection"',
      'X-Linked-ETag': f'"{linked}"',
      'X-Linked-Size': str(len(content)),
      'Location': f'{elsewhere}/files/{linked}',
    }
    return 302, headers, b''

  def _large(self) -> dict[str, bytes]:
    return {
      _sha256(content): content
      for commits in self.repositories.values()
      for files in commits.values()
      for content in files.values()
    }


def _json(value) -> tuple[int, dict[str, str], bytes]:
  return 200, {'Content-Type': 'application/json'}, json.dumps(value).encode()


def _entry(path, content):
  entry = {'type': 'file', 'path': path, 'size': len(content)}
  if path.endswith(LARGE):
    entry['lfs'] = {
      'oid': _sha256(content),
      'size': len(content),
      'pointerSize': 134,
    }
  return entry | {'oid': _git_hash(content)}


def _sha256(content):
  return hashlib.sha256(content).hexdigest()


def _git_hash(content):
  return hashlib.sha1(b'blob %d\0' % len(content) + content).hexdigest()


@contextlib.contextmanager
def running(repositories, branches, gated='') -> Iterator[Hub]:
  """Runs a hub, until the context ends."""
  hub = Hub('', repositories, branches, gated)

  class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
      path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
      hub.requests.append(f'{self.command} {path}')
      status, headers, body = hub.answer(path)
      self.send_response(status)
      for name, value in headers.items():
        self.send_header(name, value)
      self.send_header('Content-Length', str(len(body)))
      self.end_headers()
      if self.command == 'GET':
        self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *arguments):
      pass

  with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as server:
    hub.url = f'http://127.0.0.1:{server.server_port}'
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
      yield hub
    finally:
      server.shutdown()
      thread.join()
