"""Ends what a killed zpipe leaves running, such as stopped workers and compilers, which watch nobody.

The guard is a process beside them that waits until zpipe closes a pipe. It runs as a script and imports the
standard library alone, because it lives as long as a training.
"""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

_ENDED = b"ended"
"""What zpipe writes when it has ended the processes itself."""
_PASSES = 300
_PASS_SECONDS = 0.2
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


@contextmanager
def guarded(name: str, mark: str | None = None) -> Iterator[Mapping[str, str]]:
    """Yields a variable for the environment of processes that must not outlive this one.

    Its value is new, unless it is given: then it is that of a launch of several machines.
    """
    mark = mark or uuid.uuid4().hex
    argv = [sys.executable, "-I", "-S", __file__, f"{name}={mark}"]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, start_new_session=True
    ) as guard:
        try:
            yield {name: mark}
        finally:
            guard.communicate(_ENDED)


def main(variable: bytes) -> None:
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    if sys.stdin.buffer.read() == _ENDED:
        return
    end_processes_with(variable)


def end_processes_with(variable: bytes) -> None:
    """Kills every process whose environment has this variable, given as NAME=VALUE, for a minute at most."""
    for _ in range(_PASSES):
        left = list(processes_with(variable))
        if not left:
            return
        for pid in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_PASS_SECONDS)


def processes_with(variable: bytes) -> Iterator[int]:
    """The pids of all processes whose environment has this variable."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            # A process of another user, and one that has just ended, cannot be read.
            with suppress(OSError):
                if variable in (folder / "environ").read_bytes().split(b"\0"):
                    yield int(folder.name)


if __name__ == "__main__":
    main(os.fsencode(sys.argv[1]))
