"""Compiles the C kernels of `csrc/` for this processor with the system's compiler, and caches the result.

Compiling takes one or two seconds, once for each kind of processor, compiler and version of the sources. The kernels
use the OpenMP library that PyTorch has loaded, and so its threads.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import torch

from yourbert.core.paths import cache_folder
from yourbert.runtime.gpu import reason

SOURCES = Path(__file__).parent / "csrc"
COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-fPIC", "-std=gnu11")
# For vectors of 16 fp32 numbers: compilers use half of that width on Intel's processors by default.
WIDE = ("-mprefer-vector-width=512",)
SECONDS = 120.0


@cache
def library(bf16: bool) -> ctypes.CDLL:
    """The kernels for rows in bf16 or in fp32. Raises OSError or RuntimeError if they cannot be compiled or loaded."""
    built = _built(bf16)
    if isinstance(built, str):
        raise RuntimeError(built)
    return ctypes.CDLL(str(built))


def name(bf16: bool) -> str:
    """The name of the compiled file, a hash of all that it depends on; "none" if it cannot be compiled."""
    built = _built(bf16)
    return "none" if isinstance(built, str) else built.stem


@cache
def _built(bf16: bool) -> Path | str:
    """The compiled file, or the reason why there is none; cached, so that a failure is not retried."""
    try:
        return _file(bf16)
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        return reason(error)


def _file(bf16: bool) -> Path:
    compiler = _compiler()
    folder = cache_folder() / "kernels"
    kept = folder / f"{_key(compiler, bf16)}.so"
    if not kept.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as work:
            # Another process may compile the same file at the same time; either may replace the other.
            os.replace(_compile(compiler, bf16, Path(work)), kept)
    return kept


def _compiler() -> str:
    if torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"):
        raise RuntimeError("the C kernels need a processor with AVX2 or AVX-512")
    for name in filter(None, (os.environ.get("CC"), *COMPILERS)):
        if found := shutil.which(name):
            return found
    raise RuntimeError("no C compiler: cc, gcc or clang")


def _flags(bf16: bool) -> tuple[str, ...]:
    wide = WIDE if torch.backends.cpu.get_cpu_capability() == "AVX512" else ()
    return (*FLAGS, *wide, f"-DBF16={int(bf16)}")


def _key(compiler: str, bf16: bool) -> str:
    """A hash of the sources, the flags, and the compiler's report on its version and this processor."""
    said = _run([compiler, "-march=native", "-E", "-v", "-x", "c", os.devnull])
    hashed = hashlib.sha256("\0".join([compiler, said, *_flags(bf16)]).encode())
    for source in sorted(SOURCES.iterdir()):
        hashed.update(source.read_bytes())
    return hashed.hexdigest()[:24]


def _compile(compiler: str, bf16: bool, work: Path) -> Path:
    """Compiles objects and links them without -fopenmp, so that they use the OpenMP library of PyTorch."""
    names = sorted(path.stem for path in SOURCES.glob("*.c"))
    for name in names:
        _run([compiler, *_flags(bf16), "-c", str(SOURCES / f"{name}.c"), "-o", str(work / f"{name}.o")])
    _run([compiler, "-shared", *(str(work / f"{name}.o") for name in names), "-o", str(work / "kernels.so"), "-lm"])
    return work / "kernels.so"


def _run(command: list[str]) -> str:
    """The command's output, with its errors. Raises RuntimeError with the first error line if it fails."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", timeout=SECONDS
    )
    if done.returncode:
        errors = [line for line in done.stdout.splitlines() if "error" in line] or [f"exit code {done.returncode}"]
        raise RuntimeError(f"{Path(command[0]).name}: {errors[0]}")
    return done.stdout
