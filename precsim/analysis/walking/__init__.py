"""An expression, evaluated step by step, with each rounding explained."""
