"""Weights that other programs wrote, which `exports.read` converts to ours."""
