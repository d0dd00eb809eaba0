"""A figure with published numbers: computed, compared number by number, drawn, recorded."""
