"""What the figures were measured with: processor, cores, versions, revision, and how busy the machine was."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "transformers", "accelerate", "sentence-transformers", "datasets", "tokenizers", "numpy")


def facts(device: str) -> dict[str, Any]:
    return {
        "processor": _cpuinfo("model name") or platform.processor() or platform.machine(),
        "family": f"{_cpuinfo('cpu family')}/{_cpuinfo('model')}",
        "logical_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "gpu": _gpu() if device == "cuda" else "",
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "revision": _git("rev-parse", "--short=12", "HEAD"),
        "changed_files": len(_git("status", "--porcelain", "--untracked-files=no").splitlines()),
    }


def command(module: str) -> str:
    """What was typed to start this process, without the places of folders on this machine."""
    return " ".join(["python", "-m", module, *map(named, sys.argv[1:])])


def named(word: str) -> str:
    """A word of a command without the place of a folder on this machine."""
    return Path(word).name if word.startswith(("/", "..")) else word


def load() -> float:
    """The load average of the last minute: 0 on a quiet machine."""
    return round(os.getloadavg()[0], 2)


def _cpuinfo(field: str) -> str:
    """A field of the first processor, "" where the system does not tell."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            lines = (line.partition(":") for line in file)
            return next((value.strip() for name, _, value in lines if name.strip() == field), "")
    except OSError:
        return ""


def _gpu() -> str:
    import torch

    return torch.cuda.get_device_name()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _git(*words: str) -> str:
    try:
        done = subprocess.run(["git", *words], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
