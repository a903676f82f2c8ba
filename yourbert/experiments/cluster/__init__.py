"""Many experiments on many machines: Ray places them, each is one `dvc exp run`, git carries the results back."""
