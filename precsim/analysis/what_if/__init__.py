"""What other formats would do to numbers that were counted once."""
