"""Many variants trained alike, and what came of them."""
