"""Runs a command that never outlives its parent: `python guard.py COMMAND...`, with standard input a pipe.

A worker killed with `kill -9` cannot stop its children, and an orphaned training would run for hours beside its own
retry. But the kernel closes the worker's end of the pipe, and then this process group is killed. The watcher is a child
of the guard, because Ray kills the children of a dead worker but not its grandchildren.
"""

import os
import signal
import subprocess
import sys


def kill_group_on_eof() -> None:
    os.read(0, 1)
    os.killpg(0, signal.SIGKILL)


def main() -> None:
    if os.fork() == 0:
        kill_group_on_eof()
    code = subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL, check=False).returncode
    sys.exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
