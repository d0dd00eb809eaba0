"""Which arithmetic made an array: differences explained by candidates that reproduce them."""
