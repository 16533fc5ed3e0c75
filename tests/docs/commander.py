"""A process that runs commands, which it reads as lines of JSON.

Each line is a module and its arguments. The answer is null, or says what is
wrong. Each command runs in a forked process that inherits the modules that most
commands import, which would otherwise take it seconds.
"""

import json
import os
import runpy
import sys
import traceback

from absl import flags

from experiments import host_memory
import experiments.train  # noqa: F401


def run(module: str, arguments: list[str]) -> str | None:
  """Returns what is wrong, if the module has not said it already."""
  sys.argv = [module, *arguments]
  try:
    runpy.run_module(module, run_name='__main__', alter_sys=True)
  except SystemExit as error:
    if error.code:
      return str(error.code)
    # A config that cannot be read fails only when one of its keys is read.
    if 'config' in flags.FLAGS and not isinstance(
      flags.FLAGS['config'].value, list
    ):
      _ = flags.FLAGS.config.task
    return None
  return 'It parsed no flags.'


def main() -> None:
  host_memory.ask_for_large_pages()  # Else each command restarts itself.
  for line in sys.stdin:
    module, *arguments = json.loads(line)
    readable, writable = os.pipe()
    child = os.fork()
    if not child:
      status = 1
      try:
        os.dup2(writable, 1)
        os.dup2(writable, 2)
        problem = run(module, arguments)
        print(problem or '', file=sys.stderr, flush=True)
        status = 1 if problem else 0
      except BaseException:
        traceback.print_exc()
      finally:
        os._exit(status)
    os.close(writable)
    with open(readable, errors='replace') as pipe:
      said = pipe.read().strip()
    _, status = os.waitpid(child, 0)
    print(json.dumps((said or 'It failed.') if status else None), flush=True)


if __name__ == '__main__':
  main()
