"""How a real number becomes representable: rounding modes, overflow, subnormals."""
