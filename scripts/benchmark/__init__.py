"""Times a model in the forms of its cross-attention, and beside its peers."""
