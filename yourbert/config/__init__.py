"""params.yaml: the schema of every key, reading and checking the file, adding to it, and its reference.

`schema.py` declares and documents the keys; `yaml_file.py` parses the file with line numbers; `params.py` checks it and
adds entries to it; `reference.py` writes docs/params.md and docs/params.schema.json. What a key does is implemented
where it takes effect, not here.
"""
