"""The state of a run as bits: hashes, and a checkpoint."""
