"""Stands in for a package if a script is started as a file.

`python scripts/export.py` imports this instead of the package `experiments`;
see `experiments.experiments`.
"""

import pathlib
import runpy

_ROOT = pathlib.Path(__file__).absolute().parents[1]
runpy.run_path(str(_ROOT / 'experiments' / 'experiments.py'))
