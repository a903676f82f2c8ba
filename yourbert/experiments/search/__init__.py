"""Parameter search with DVC experiments: grid, random search or successive halving; a table, a chart, the best."""
