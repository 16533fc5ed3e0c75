"""Measures what only a GPU or TPU can tell, in one command."""
