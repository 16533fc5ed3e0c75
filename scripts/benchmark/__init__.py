"""Times a model in the forms of its cross-attention, and other Perceivers."""
