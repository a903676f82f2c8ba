"""A search for parameters: DVC experiments, the weak ones ended early, with the winner, the table and the bill."""
