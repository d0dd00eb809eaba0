"""Which arithmetic a product of unknown making has: probes, candidates, and the comparison."""
