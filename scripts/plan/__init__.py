"""What `scripts.plan` consists of."""
