"""Fine-tuning on one task or several: the learner, losses, sampling between tasks, curricula, a run from start to end.

The loop itself is in `training/`.
"""
