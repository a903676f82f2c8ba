"""Experiments on several machines: Ray schedules them, each is one `dvc exp run`, git transfers the results."""
