"""params.yaml: the schema of every key, the one place that reads the file, edits that keep comments, the reference.

A key is declared and documented in `schema.py`; `params.py` reads, checks and resolves the file; `reference.py` writes
docs/params.md and docs/params.schema.json. What a key does lives where it takes effect, not here.
"""
