"""Weights and activations of a finished model in narrower formats, and what that loses."""
