"""Inference: the self-contained model folder, and predictions from a loaded model.

Training predicts dev through it. Metrics and attributions are in `evaluation/`; files, HTTP and export in `deploy/`.
"""
