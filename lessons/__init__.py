"""Lessons on number formats: marimo notebooks, their exercises, and the command that runs them."""
