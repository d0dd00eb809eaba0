"""Many operations in a stated order: matrix products whose every rounding is specified."""
