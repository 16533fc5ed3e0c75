"""Stands in for the package `configs`, like `scripts.experiments`."""

import experiments as experiments
