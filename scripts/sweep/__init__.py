"""Trains many variants alike and collects their results."""
