"""Conformance vectors, and a runner that scores precsim and other libraries with them (README.md)."""
