"""Published figures and tables, recomputed with precsim and compared number by number."""
