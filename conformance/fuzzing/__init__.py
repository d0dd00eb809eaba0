"""Random inputs for everything that reads: what makes them, who reads them, and what is a fault."""
