"""Conformance vectors, and a runner that scores libraries with them (README.md)."""
