"""Runs a command that never outlives whoever started it: `python guard.py COMMAND...`, standard input held open.

A worker killed with `kill -9` cannot end what it started, and a training left behind would go on for hours beside its
own second try. But the kernel closes the worker's end of the pipe, and then all processes of this group are killed.
The one that waits for it is a child of this one, because Ray kills the children of a worker that ends, not theirs.
"""

import os
import signal
import subprocess
import sys


def end_with_the_starter() -> None:
    os.read(0, 1)
    os.killpg(0, signal.SIGKILL)


def main() -> None:
    if os.fork() == 0:
        end_with_the_starter()
    code = subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL, check=False).returncode
    sys.exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
