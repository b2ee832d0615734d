"""The output of the workers, which the launchers write to `logs/` of the attempt."""

from contextlib import suppress
from itertools import tee
from operator import eq
from pathlib import Path

from zpipe.redact.lines import redact_lines
from zpipe.runfolder.folder import Attempt
from zpipe.runfolder.foreign_files import is_below, is_regular, read_end

_TAIL_BYTES = 1 << 16
"""Enough for the last lines; logs can be gigabytes long."""


def log_files(attempt: Attempt) -> list[Path]:
    """Every log, starting with the standard error of the ranks."""
    launcher = (
        [attempt.launcher_log]
        if is_regular(attempt.launcher_log) and is_below(attempt.logs, attempt.path)
        else []
    )
    return [*attempt.rank_logs("stderr"), *attempt.rank_logs("stdout"), *launcher]


def rank_lines(attempt: Attempt, rank: int, count: int) -> list[str]:
    """The last lines of a rank's standard error, or of its standard output if the former is empty."""
    for stream in ("stderr", "stdout"):
        for path in attempt.rank_logs(stream, rank):
            if lines := tail(path, count):
                return lines
    return []


def launcher_lines(attempt: Attempt, count: int) -> list[str]:
    """The last lines of the launcher itself."""
    return tail(attempt.launcher_log, count)


def tail(path: Path, count: int) -> list[str]:
    """The last non-blank lines of a file, without secrets; empty if there is no such file."""
    try:
        text = read_end(path, _TAIL_BYTES)
    except OSError:
        return []
    lines = redact_lines(line for line in text.splitlines() if line.strip())
    return [line.rstrip() for line in lines][-count:]


def hide_secrets(attempt: Attempt) -> None:
    """Removes passwords and tokens from the logs of a run that has ended, if the disk has space for it."""
    for path in log_files(attempt):
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as log:
            given, again = tee(log)
            if all(map(eq, given, redact_lines(again))):
                continue
        clean = path.with_name(f".{path.name}.clean")
        with suppress(OSError):
            with (
                path.open(encoding="utf-8", errors="surrogateescape", newline="") as log,
                clean.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
            ):
                file.writelines(redact_lines(log))
            clean.replace(path)
