"""Pictures in one style; the only modules that import matplotlib."""
