"""Work over several runs: comparison of revisions, parameter search, clusters, task subsets, skill localization.

No stage imports this package.
"""
