"""The output of the workers, which the launchers write to `logs/` in the run folder."""

from contextlib import suppress
from pathlib import Path

from zpipe.redact import redact

_TAIL_BYTES = 1 << 16
"""Enough for the last lines; logs can be gigabytes long."""


def log_files(run_dir: Path) -> list[Path]:
    """Every log, starting with the standard error of the ranks."""
    logs = run_dir / "logs"
    ranks = sorted(logs.glob("*/attempt_*/*/stderr.log"))
    return [*ranks, *sorted(logs.glob("*/attempt_*/*/stdout.log")), *logs.glob("launcher.log")]


def rank_lines(run_dir: Path, rank: int, count: int) -> list[str]:
    """The last lines of a rank's standard error, or of its standard output if the former is empty."""
    for name in ("stderr.log", "stdout.log"):
        for path in sorted((run_dir / "logs").glob(f"*/attempt_*/{rank}/{name}")):
            if lines := tail(path, count):
                return lines
    return []


def launcher_lines(run_dir: Path, count: int) -> list[str]:
    """The last lines of the launcher itself."""
    return tail(run_dir / "logs" / "launcher.log", count)


def tail(path: Path, count: int) -> list[str]:
    """The last non-blank lines of a file, without secrets; empty if there is no such file."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return [redact(line.rstrip()) for line in [each for each in text.splitlines() if each.strip()][-count:]]


def hide_secrets(run_dir: Path) -> None:
    """Removes passwords and tokens from the logs of a run that has ended, if the disk has space for it."""
    for path in log_files(run_dir):
        with path.open(errors="surrogateescape", newline="") as log:
            if all(redact(line) == line for line in log):
                continue
        clean = path.with_name(f".{path.name}.clean")
        with suppress(OSError):
            with (
                path.open(errors="surrogateescape", newline="") as log,
                clean.open("w", errors="surrogateescape", newline="") as file,
            ):
                file.writelines(redact(line) for line in log)
            clean.replace(path)
