"""Evaluation: metrics with confidence intervals, paired significance tests, prediction files, word attributions.

`evaluate.py` is the `evaluate` stage. Tables and pages for people are in `report/`.
"""
