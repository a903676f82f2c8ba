"""From files to checked rows: encodings, CSV and other formats, rows and their labels, leakage, corpus statistics.

`rows.py` checks each row and label against its task; `check.py` is the `check` stage, which reads all files before
anything is replaced. No torch, no tokenizer, no network: what fetches a corpus is in `download/`, what turns rows into
tokens in `tokens/`. `bundled/` generates the synthetic corpus that a clone starts with.
"""
