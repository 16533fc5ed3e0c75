"""Stands in for a package where a script is started as a file.

`python scripts/report.py` finds this in the place of the package `experiments`;
see `experiments.experiments`.
"""

import pathlib
import runpy

_ROOT = pathlib.Path(__file__).absolute().parents[1]
runpy.run_path(str(_ROOT / 'experiments' / 'experiments.py'))
