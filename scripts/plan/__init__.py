"""Plans memory and time on hardware that is not at hand."""
