"""Vectors for authors of hardware, emulators and compilers: `python -m conformance --emit`."""
