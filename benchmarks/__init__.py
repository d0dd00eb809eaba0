"""The speed of precsim as ratios to the machine's limits and to peers (``-m benchmarks``)."""
