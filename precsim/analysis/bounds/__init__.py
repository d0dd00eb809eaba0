"""Bounds on rounding errors: for orders of sums, and computed along a function."""
