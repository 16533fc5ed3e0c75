"""Stands in for a package; see `scripts.scripts`."""

import scripts as scripts
