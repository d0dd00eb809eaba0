"""One correctly rounded operation at a time, and sums in a stated order."""
