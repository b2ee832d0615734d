"""The workers' own output, as the launchers leave it under `logs/` of the run folder."""

from pathlib import Path

from zpipe.plan import write_text
from zpipe.redact import redact


def log_files(run_dir: Path) -> list[Path]:
    """Every log, the ranks' standard errors first."""
    logs = run_dir / "logs"
    ranks = sorted(logs.glob("*/attempt_*/*/stderr.log"))
    return [*ranks, *sorted(logs.glob("*/attempt_*/*/stdout.log")), *logs.glob("launcher.log")]


def last_lines(run_dir: Path, count: int) -> list[str]:
    """The last lines of the first log that has any, without secrets."""
    for path in log_files(run_dir):
        lines = [line for line in path.read_text(errors="replace").splitlines() if line.strip()]
        if lines:
            return [redact(line) for line in lines[-count:]]
    return []


def hide_secrets(run_dir: Path) -> None:
    """Takes passwords and tokens out of the logs of a run that has ended."""
    for path in log_files(run_dir):
        text = path.read_text(errors="replace")
        safe = redact(text)
        if safe != text:
            write_text(path, safe)
