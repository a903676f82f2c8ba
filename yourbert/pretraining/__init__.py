"""Masked-language-model training on the user's texts: masking, the learner, the `pretrain` stage."""
