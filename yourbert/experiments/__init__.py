"""Work over several runs: comparing two revisions, search and sweeps, a cluster, task subsets, skill localisation.

No stage imports this package.
"""
