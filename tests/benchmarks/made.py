"""A made-up result file: two cases, three rounds, the second of them disturbed."""

from __future__ import annotations

from typing import Any

STEP, PARITY, RUN = "train minilm sst 16", "parity minilm sst", "predict minilm sst"
# A step of 400 tokens in 0.1 s at half the peak; the machine is four times as slow in round 1.
SECONDS, PEAK, FLOPS, SLOW = 0.1, 2e9, 1e8, 4.0
PEERS = {"ours": 1.0, "ours-fp32": 2.0, "hf-default": 6.0, "hf-tuned": 2.5}


def facts() -> dict[str, Any]:
    blocks, peaks = [], []
    for number, slow in enumerate((1.0, SLOW, 1.1)):
        for case in (STEP, RUN):
            peaks.append({"round": number, "case": case, "values": _peak(slow)})
        for variant, times in PEERS.items():
            blocks.append(block(number, STEP, variant, times * slow * 5 * SECONDS))
        blocks.append(block(number, RUN, "ours", 1.0 * slow))
        blocks.append(block(number, RUN, "hf-pipeline", 2.0 * slow, note="batch 8"))
    blocks.append(block(0, PARITY, "parity", 0.0, values={"loss": 1e-7, "logits": 1e-5}))
    return {
        "suite": "cpu",
        "command": "python -m benchmarks.run cpu",
        "corpus": "corpus",
        "minutes": 1.0,
        "machine": {
            "processor": "made up",
            "family": "1/2",
            "logical_cores": 2,
            "gpu": "",
            "threads": [2],
            "load_at_start": 0.0,
            "load_at_end": 2.0,
            "revision": "0123456789ab",
            "changed_files": 1,
            "python": "3.11.0",
            "packages": {"torch": "2.13.0", "accelerate": ""},
        },
        "cases": {
            STEP: {"kind": "train", "weights": 1000},
            RUN: {"kind": "predict", "weights": 1000},
            PARITY: {"kind": "parity", "weights": 1000},
        },
        "blocks": blocks,
        "peaks": peaks,
        "left_out": [{"case": STEP, "variant": "cross-encoder", "why": "not installed: datasets"}],
    }


def _peak(slow: float) -> dict[str, float]:
    return {"bfloat16": PEAK / slow, "float32": PEAK / 2 / slow, "bytes_per_second": 1e6}


def block(number: int, case: str, variant: str, seconds: float, **more: Any) -> dict[str, Any]:
    """Five steps of 400 tokens."""
    usual = {"steps": 5, "rows": 80, "tokens": 2000, "flops": 5 * FLOPS, "dtype": "bfloat16", "note": "", "values": {}}
    return {"round": number, "case": case, "variant": variant, "seconds": seconds, "num_threads": 2, **usual, **more}
