"""Takes away what only Linux, or only Unix, has; then imports every module, or runs the stages of a project.

    python tests/support/bare_system.py PROJECT    # a folder of tests/faults/project.py

It stands in for macOS and Windows as far as one machine can: nothing here knows their file systems.
"""

from __future__ import annotations

import builtins
import ctypes
import io
import os
import pkgutil
import signal
import sys
from contextlib import chdir
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
MODULES = ("fcntl", "resource", "grp", "pwd", "termios")
FUNCTIONS = (
    "sched_getaffinity", "sched_setaffinity", "fork", "forkpty", "killpg", "setsid", "getpgid", "getpgrp", "setpgid",
    "fchmod", "chown", "sync", "statvfs", "posix_fadvise", "sysconf", "getloadavg", "geteuid", "getuid", "mkfifo",
    "O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK",
)  # fmt: skip
SIGNALS = ("SIGPIPE", "SIGHUP", "SIGKILL", "SIGQUIT", "SIGUSR1", "SIGALRM", "SIGSTOP", "SIGCONT", "SIGCHLD")


def take_away() -> None:
    """After the libraries are loaded, which know this system by themselves."""
    import huggingface_hub
    import psutil
    import safetensors.torch
    import scipy.stats
    import tokenizers
    import torch._dynamo  # noqa: F401

    assert huggingface_hub and psutil and safetensors and scipy and tokenizers
    for name in MODULES:
        sys.modules[name] = None  # type: ignore[assignment]
    for name in FUNCTIONS:
        if hasattr(os, name):
            delattr(os, name)
    for name in SIGNALS:
        if hasattr(signal, name):
            delattr(signal, name)
    os.link = _no_links
    opened_low, flushed = os.open, os.fsync

    def open_no_folder(path: Any, flags: int, *how: Any, **more: Any) -> int:
        if os.path.isdir(path):
            raise PermissionError(13, "a folder cannot be opened", str(path))
        descriptor = opened_low(path, flags, *how, **more)
        read_only.add(descriptor) if flags & (os.O_WRONLY | os.O_RDWR) == 0 else read_only.discard(descriptor)
        return descriptor

    def flush_what_is_written(descriptor: int) -> None:
        if descriptor in read_only:
            raise OSError(9, "open for reading alone")
        flushed(descriptor)

    read_only: set[int] = set()
    os.open, os.fsync = open_no_folder, flush_what_is_written  # type: ignore[assignment]
    opened, loaded = io.open, ctypes.CDLL

    def without_proc(file: Any, *how: Any, **more: Any) -> Any:
        if str(file).startswith(("/proc", "/sys")) and _called_by_us():
            raise FileNotFoundError(2, "this system has no such files", str(file))
        return opened(file, *how, **more)

    def without_prctl(name: str | None, *how: Any, **more: Any) -> Any:
        if name is None and _called_by_us():
            raise TypeError("this system has no symbols of its own program")
        return loaded(name, *how, **more)

    builtins.open = io.open = without_proc  # type: ignore[assignment]
    ctypes.CDLL = without_prctl  # type: ignore[assignment,misc]
    sys.platform = "bare"


def _no_links(*words: Any, **more: Any) -> None:
    """As on FAT, and between the drives of Windows."""
    raise OSError(95, "this file system has no hard links")


def _called_by_us() -> bool:
    """Whether a file of the library asks; `Path.open` may lie between."""
    frame = sys._getframe(2)
    while frame.f_back and "pathlib" in frame.f_code.co_filename:
        frame = frame.f_back
    return str(ROOT / "yourbert") in frame.f_code.co_filename


def import_everything() -> list[str]:
    """Imports all modules of the library and the stages; those that need an absent extra may say so."""
    for package in ("yourbert", "stages"):
        for module in pkgutil.walk_packages([str(ROOT / package)], f"{package}."):
            if module.name.rpartition(".")[2] != "__main__":
                try:
                    import_module(module.name)
                except ModuleNotFoundError as error:
                    # Triton has no build for such systems; its kernels are imported on a GPU alone.
                    if (error.name or "").partition(".")[0] in ("yourbert", "stages", *MODULES):
                        raise
    return sorted(name for name in sys.modules if name.startswith(("yourbert.", "stages.")))


def run_stages(project: Path) -> None:
    """Checks, tokenizes, trains twice, evaluates and predicts."""
    import yourbert
    from yourbert.core.locks import acquire

    with chdir(project):
        for words in (
            ["check"], ["tokenize", "sst"], ["finetune", "sst", "11711"], ["evaluate", "sst", "11711"],
        ):  # fmt: skip
            import_module(f"stages.{words[0]}").main(*words[1:])
        model = yourbert.load("build/models/sst/11711", device="cpu", precision="fp32", num_threads=1)
        assert len(model.predict(["one text", "another"])) == 2
        lock = acquire(Path(".yourbert") / "a.lock")
        assert lock is not None
        lock.release()


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    take_away()
    import_module("yourbert.core.program").start()
    sys.stdout.write(f"{len(import_everything())} modules\n")
    run_stages(Path(sys.argv[1]))
