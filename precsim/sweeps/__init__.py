"""Many training runs: a grid of cells, the workers that train them, one file of results."""
