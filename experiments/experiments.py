"""Says how to start what was started as a file: `python experiments/run.py`.

Python then looks for the packages of the checkout beside that file, and finds
this one in their stead. Nothing else imports it.
"""

import pathlib
import sys

_started = pathlib.Path(str(sys.modules['__main__'].__file__))
_folder = _started.parent
sys.exit(
  f'Error: {_started} is a module of the checkout. Start it there by its'
  f' name: cd {_folder.parent}; python -m {_folder.name}.{_started.stem}'
)
