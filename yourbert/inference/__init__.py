"""A trained model in use: the self-contained model folder, predictions, attributions.

Training reads its dev scores through here. Scores are in `evaluation/`; files, HTTP and export in `deploy/`.
"""
