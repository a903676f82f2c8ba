"""From rows to batches: the tokenizer, packed token arrays on disk, the `tokenize` stage, batches in a seeded order.

NumPy only, no torch. How many rows of which task a step takes is decided in `finetuning/sampling.py`.
"""
