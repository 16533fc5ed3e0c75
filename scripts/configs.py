"""Stands in for a package, as `scripts.experiments` does for another."""

import experiments as experiments
