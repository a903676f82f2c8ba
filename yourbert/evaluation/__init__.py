"""How good a model is: metrics with intervals, paired significance tests, prediction files, attributions of words.

`evaluate.py` is the `evaluate` stage. What is written for a person to read is in `report/`.
"""
