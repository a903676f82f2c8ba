"""What answers questions of quality: which way to train is better, and how far the tables of the study are reached.

`questions` trains the ways that `asked` lists, a `trials` record for each, and puts the verdicts into docs/findings.md;
`study` sets DVC's experiments beside the study. Records are in `results/`. What measures speed lives one folder above.
"""
