"""Products as a tensor core computes them: one rounding per step of several products."""
