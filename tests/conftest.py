"""Settings that have to be in place before jax or matplotlib is first imported."""

import os

# For the tests marked gpu: JAX_PLATFORMS=cuda,cpu python -m pytest -m gpu
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "Agg")
