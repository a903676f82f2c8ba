"""The training loop, whatever is learned: steps, AdamW and its schedule, exact resume, history, signals.

`graph/` captures a step as a CUDA graph, `fused/` computes a layer by a few kernels (Triton, C). What a step's loss is
comes from a learner in `finetuning/` or `pretraining/`.
"""
