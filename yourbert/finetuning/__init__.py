"""Fine-tuning on one task or several: the learner, losses, sampling between tasks, curricula, and a complete run.

The training loop is in `training/`.
"""
