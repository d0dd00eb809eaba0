"""Sums in a stated order, with one rounding per addition or one in all."""
