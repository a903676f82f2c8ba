"""From files to checked rows: encodings, CSV and other formats, label and row checks, leakage, corpus statistics.

No torch, no tokenizer, no network: what fetches a corpus is in `download/`, what turns rows into tokens in `tokens/`.
`bundled/` generates the synthetic corpus that a clone starts with.
"""
