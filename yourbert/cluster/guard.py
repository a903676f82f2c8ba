"""Runs a command that never outlives whoever started it: `python guard.py COMMAND...`, standard input held open.

A worker killed with `kill -9` cannot end what it started, and a training left behind would go on for hours beside its
own second try. But the kernel closes the worker's end of the pipe, and then all processes of this group are killed.
"""

import os
import signal
import subprocess
import sys
import threading


def end_with_the_starter() -> None:
    os.read(0, 1)
    os.killpg(0, signal.SIGKILL)


def main() -> None:
    with subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL) as run:
        threading.Thread(target=end_with_the_starter, daemon=True).start()
        code = run.wait()
    sys.exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
