"""What `scripts.predict` consists of."""
