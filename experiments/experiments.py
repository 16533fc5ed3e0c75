"""Says how to start a module that was started as a file.

After `python experiments/run.py`, Python looks for the checkout's packages
beside that file, and finds this module in place of the package `experiments`.
Nothing else imports it.
"""

import pathlib
import sys

_started = pathlib.Path(str(sys.modules['__main__'].__file__))
_folder = _started.parent
sys.exit(
  f'Error: {_started} is a module of the checkout. Start it there by its'
  f' name: cd {_folder.parent}; python -m {_folder.name}.{_started.stem}'
)
