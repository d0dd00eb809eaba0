"""Products with one rounding per addition, or one in all."""
