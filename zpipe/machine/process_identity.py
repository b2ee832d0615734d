"""Identifies a process by its pid and start time, so that a reused pid is not mistaken for it.

The start time is counted in clock ticks since boot (proc_pid_stat(5), field 22). Unlike psutil's create_time,
it does not change when the clock of the machine is set.
"""

import os
from pathlib import Path

_STATE, _START_TIME, _EXIT_CODE = 0, 19, 49
"""Positions behind the command name, which may contain spaces and parentheses."""


def identity_of(pid: int) -> str:
    """`pid:start time`. Raises ProcessLookupError if there is no such process."""
    return f"{pid}:{_fields(pid)[_START_TIME]}"


def is_alive(identity: str) -> bool:
    """Whether the process of this identity still runs; a zombie does not."""
    pid, _, started = identity.partition(":")
    try:
        fields = _fields(int(pid))
    except ProcessLookupError:
        return False
    return fields[_START_TIME] == started and fields[_STATE] not in ("Z", "X")


def exit_code_of(pid: int) -> int | None:
    """Of a process that has ended and that its parent has not asked for yet; None for any other."""
    try:
        fields = _fields(pid)
    except ProcessLookupError:
        return None
    return os.waitstatus_to_exitcode(int(fields[_EXIT_CODE])) if fields[_STATE] == "Z" else None


def own_identity() -> str:
    return identity_of(os.getpid())


def place() -> str:
    """Where pids mean the same: this start of this machine, and its namespace of pids in a container."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"


def _fields(pid: int) -> list[str]:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        raise ProcessLookupError(pid) from None
    return text.rpartition(")")[2].split()
