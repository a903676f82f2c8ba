"""What every other package stands on: errors, files written whole, locks, seeds, paths, tasks, text, cost.

Nothing here imports another package of the library, and nothing here imports torch. A helper that knows about params,
rows or models does not belong here; it lives beside what it is about.
"""
