"""Elementary functions, correctly rounded: polynomials on integers, then one rounding."""
