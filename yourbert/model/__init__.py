"""BERT: dropout, attention over packed sequences, encoder, heads, the multi-task model, stock checkpoints in and out.

The plain model in PyTorch operations, which every kernel is tested against. No training code, no files but checkpoints.
"""
