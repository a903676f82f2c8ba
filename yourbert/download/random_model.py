"""`model: random:<layers>x<width>`: a randomly initialized BERT with a vocabulary built from the corpus.

It is not pretrained: use it to test the pipeline and to measure speed, not for results.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from yourbert.core.errors import fail
from yourbert.core.seeding import seed_of
from yourbert.core.storage import write_json, write_manifest, write_text

PATTERN = re.compile(r"random:([1-9][0-9]*)x([1-9][0-9]*)")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = 4000
HEAD_WIDTH = 32


def is_random(model: str) -> bool:
    return model.startswith("random:")


def make_random_model(model: str, corpus: Path, folder: Path) -> dict[str, object]:
    """Writes an encoder folder; returns source, layers and width. Raises UserError (P05) for an invalid size."""
    match = PATTERN.fullmatch(model)
    if match is None or int(match[2]) % HEAD_WIDTH:
        what = f"model '{model}': expected random:<layers>x<width>, the width a multiple of {HEAD_WIDTH}"
        fail("P05", what, where="params.yaml", fix="for instance `model: random:2x64`")
    # Imported here, so that `download` needs torch for this model only.
    import torch

    from yourbert.model.encoder import EncoderConfig
    from yourbert.model.pretrained import random_encoder, save_encoder

    layers, width = int(match[1]), int(match[2])
    vocabulary = build_vocabulary(corpus)
    config = EncoderConfig(
        vocab_size=len(vocabulary),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // HEAD_WIDTH,
        intermediate_size=4 * width,
    )
    rng = torch.Generator().manual_seed(seed_of(0, model))
    save_encoder(folder, random_encoder(config, rng), None)
    write_text(folder / "vocab.txt", "\n".join(vocabulary) + "\n")
    write_json(folder / "tokenizer_config.json", {"do_lower_case": True})
    write_manifest(folder)
    return {"source": model, "layers": layers, "width": width}


def build_vocabulary(corpus: Path) -> list[str]:
    """Special tokens, printable ASCII characters as first and as later pieces of a word, and the commonest words."""
    characters = [chr(c) for c in range(33, 127) if not chr(c).isupper()]
    counts: Counter[str] = Counter()
    for path in sorted(p for p in corpus.iterdir() if p.suffix != ".json" and "train" in p.name):
        with path.open(encoding="utf-8", errors="ignore", newline="\n") as file:
            for line in file:
                counts.update(re.findall(r"[a-z]{2,}", line.lower()))
    words = sorted(counts, key=lambda word: (-counts[word], word))[:WORDS]
    return [*SPECIAL, *characters, *(f"##{c}" for c in characters), *words]
