"""Large pages of memory for computing on a CPU.

XLA takes a step's temporaries from malloc and frees them at its end, and Linux
then zeroes each page of 4 kB again: 90,000 of them in a step of a third of a
second, a third of its time. glibc can ask for pages of 2 MB instead, but only
in a process that starts with this setting in its environment.
"""

import os
import sys

_VARIABLE = 'GLIBC_TUNABLES'
_VALUE = 'glibc.malloc.hugetlb=1'


def ask_for_large_pages() -> bool:
  """Asks for large pages in all processes started from now on.

  The user's own settings of glibc stay as they are. Returns whether this
  process itself has to be restarted to have large pages.
  """
  if sys.platform != 'linux' or _VARIABLE in os.environ:
    return False
  os.environ[_VARIABLE] = _VALUE
  return True


def restart_with_large_pages() -> None:
  """Restarts this process with the same arguments, if it has no large pages."""
  if ask_for_large_pages():
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, sys.orig_argv)
