"""A process that runs snippets, which it reads as lines of JSON.

All snippets share a namespace. The answer to each is a line of JSON: what it
printed, and its traceback.
"""

import contextlib
import io
import json
import sys
import traceback


def main() -> None:
  answers = sys.stdout
  namespace = {'__name__': '__main__'}
  for line in sys.stdin:
    snippet = json.loads(line)
    # So that tracebacks have the page's line numbers.
    code = '\n' * snippet['line'] + snippet['code']
    printed, error = io.StringIO(), None
    try:
      with contextlib.redirect_stdout(printed):
        exec(compile(code, snippet['page'], 'exec'), namespace)
    except Exception:
      error = traceback.format_exc()
    json.dump({'printed': printed.getvalue(), 'error': error}, answers)
    print(file=answers, flush=True)


if __name__ == '__main__':
  main()
