"""The base of all other packages: errors, atomic files, locks, seeds, paths, facts of a task, text, cost.

Nothing here imports another package of the library, and nothing imports torch when it is loaded. A helper that knows
about params, rows or models belongs in the package of its subject.
"""
