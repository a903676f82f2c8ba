"""A trained model in use: the self-contained model folder, and predictions from it.

Training reads its dev scores through here. Scores and attributions are in `evaluation/`; files, HTTP and export in
`deploy/`.
"""
