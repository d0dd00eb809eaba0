"""The platform's own kernels: calling them, and finding the order in which they add."""
