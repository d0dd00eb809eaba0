"""Weights that are taken out of a model, and stay out while it is trained."""
