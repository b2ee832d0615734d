"""Builds the archive for a bug report: text files only, each one redacted."""

import io
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from zpipe import __version__
from zpipe.launchers.logs import log_files
from zpipe.machine import describe as machine
from zpipe.plan.plan import Plan, read_plan
from zpipe.redact import redact, redact_tree

LINES = 200
"""Taken from the end of each log and of the event file."""
_BYTES = 2_000_000
"""Limit per file: a log may consist of a single huge line."""
_FILES = (
    "plan.json",
    "ds_config.json",
    "config.yaml",
    "result.json",
    "record.json",
    "postmortem.md",
    ".hydra/overrides.yaml",
    ".hydra/hydra.yaml",
    "zpipe.log",
)
_TAILS = ("events.jsonl", "samples.jsonl")


def write_archive(run_dir: Path, path: Path, say: Callable[[str], None]) -> list[str]:
    """Writes the .tar.gz and returns the names in it. `say` is called before slow steps."""
    run_dir = run_dir.absolute()
    plan = read_plan(run_dir)
    root = path.name.removesuffix(".gz").removesuffix(".tar")
    names = []
    with tarfile.open(path, "x:gz") as archive:
        for name, text in _texts(run_dir, plan, say):
            names.append(name)
            _add(archive, f"{root}/{name}", redact(text))
        _add(archive, f"{root}/README.txt", _readme(run_dir, names))
    return ["README.txt", *names]


def _texts(run_dir: Path, plan: Plan, say: Callable[[str], None]) -> Iterator[tuple[str, str]]:
    for name in _FILES:
        if (run_dir / name).is_file():
            yield name.removeprefix(".hydra/"), _tail(run_dir / name, None)
    for name in _TAILS:
        if (run_dir / name).is_file():
            yield name, _tail(run_dir / name, LINES)
    for file in sorted(run_dir.glob("rank*.error.json")):
        yield file.name, _tail(file, None)
    for file in log_files(run_dir):
        yield str(file.relative_to(run_dir)), _tail(file, LINES)
    yield "versions.txt", machine.versions()
    yield "hardware.txt", machine.hardware(run_dir)
    yield "environment.txt", machine.environment()
    say("running DeepSpeed's environment report, which takes some seconds ...")
    yield "operators.txt", machine.operators(redact_tree(plan.launch.env))


def _tail(path: Path, lines: int | None) -> str:
    """The end of a text file, with a note on how much was left out."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - _BYTES))
        text = file.read().decode(errors="replace")
    kept = text.splitlines(keepends=True)[-lines:] if lines is not None else [text]
    shown = "".join(kept)
    left_out = size - len(shown.encode(errors="replace"))
    return f"(the first {left_out:,} bytes are left out)\n{shown}" if left_out > 0 else shown


def _add(archive: tarfile.TarFile, name: str, text: str) -> None:
    data = text.encode(errors="replace")
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime, entry.mode = len(data), int(time.time()), 0o644
    archive.addfile(entry, io.BytesIO(data))


def _readme(run_dir: Path, names: list[str]) -> str:
    return "\n".join(
        [
            f"A run of zpipe {__version__}: {run_dir}",
            f"Collected {time.strftime('%Y-%m-%d %H:%M %Z')}; of logs and events the last {LINES} lines.",
            "Passwords and tokens were replaced by ***. Data, model and checkpoints are not included.",
            "Paths, log lines and settings are: review them before you send this archive.",
            "",
            *names,
            "",
        ]
    )
