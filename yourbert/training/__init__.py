"""The training loop, whatever is learned: steps, AdamW and its schedule, exact resume, history, signals.

`graph/` captures a step as a CUDA graph, `fused/` computes a layer by a few kernels (Triton, C). What a step's loss is
comes from a learner in `finetuning/` or `pretraining/`.

One step on a plain CPU, in the order in which to read it:

1. `training/loop.py`        EagerStepper.step: losses, backward, optimizer step, bookkeeping
2. `finetuning/learner.py`   TaskLearner.losses: which rows, their labels, the loss divided by them
3. `tokens/batching.py`      BatchSampler.rows and gather: the rows of a batch as flat arrays, without padding
4. `model/multitask.py`      Model.forward: the encoder, the pooling and the head of a task
5. `model/encoder.py`        BERT: embeddings, layers, pooling
6. `model/attention.py`      attention inside packed sequences, forward and backward
7. `finetuning/losses.py`    the loss of the scores, summed over rows
8. `training/optimizer.py`   optimizer_step: clip, AdamW; rate: the schedule

What else a step calls does what its name says: `seed_of`, `keep_mask` (dropout), a head (`model/heads.py`: dropout and
a linear layer), `Gradients.backward` (in one process it only calls backward), `Spikes.record`.
"""
