"""The rounding kernel: integer arithmetic on bit patterns, one source for NumPy and JAX."""
