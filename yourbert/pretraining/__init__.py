"""Masked-language-model training on a person's own text: masking, the learner, the `pretrain` stage."""
