"""Large pages for what a CPU computes with.

XLA takes a step's temporaries from malloc and gives them back at its end, and
Linux then zeroes each page of 4 kB once more: 90,000 of them in a step of a
third of a second, a third of its time. glibc can ask for pages of 2 MB instead,
but only of a process that starts with this in its environment.
"""

import os
import sys

_VARIABLE = 'GLIBC_TUNABLES'
_VALUE = 'glibc.malloc.hugetlb=1'


def ask_for_large_pages() -> bool:
  """Asks for them in all processes started from now on.

  Returns:
    Whether this process itself has to be started anew to have them. The user's
    own settings of glibc are left as they are.
  """
  if sys.platform != 'linux' or _VARIABLE in os.environ:
    return False
  os.environ[_VARIABLE] = _VALUE
  return True


def restart_with_large_pages() -> None:
  """Starts this process anew, as it was started, if that makes a difference."""
  if ask_for_large_pages():
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, sys.orig_argv)
