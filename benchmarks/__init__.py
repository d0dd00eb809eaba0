"""How fast precsim is, as ratios to what the machine can do and to other libraries (``python -m benchmarks``)."""
