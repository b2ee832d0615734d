"""Builds the archive for a bug report: text files only, each one redacted."""

import io
import tarfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from zpipe import __version__
from zpipe.launchers.logs import log_files
from zpipe.machine import describe as machine
from zpipe.plans.plan import Plan
from zpipe.redact import redact
from zpipe.redact.lines import redact_lines
from zpipe.runfolder.folder import RunFolder
from zpipe.runfolder.foreign_files import is_below, is_regular, read_end
from zpipe.runfolder.plan_file import read_plan

LINES = 200
"""Taken from the end of each log and of the event file."""
_BYTES = 2_000_000
"""Limit per file: a log may consist of a single huge line."""


def write_archive(folder: RunFolder, path: Path, say: Callable[[str], None]) -> list[str]:
    """Writes the .tar.gz and returns the names in it. `say` is called before slow steps."""
    plan = read_plan(folder.path)
    root = path.name.removesuffix(".gz").removesuffix(".tar")
    names = []
    with tarfile.open(path, "x:gz") as archive:
        for name, text in _texts(folder, plan, say):
            names.append(name)
            _add(archive, f"{root}/{name}", redact(text))
        _add(archive, f"{root}/README.txt", _readme(folder.path, names))
    return ["README.txt", *names]


def _texts(folder: RunFolder, plan: Plan, say: Callable[[str], None]) -> Iterator[tuple[str, str]]:
    attempt = folder.attempt
    own = partial(_is_own, folder.path)
    for file in filter(own, (*folder.texts(), *attempt.rank_errors())):
        yield str(file.relative_to(folder.path)), _tail(file, None)
    for file in filter(own, (attempt.events, attempt.samples, *log_files(attempt))):
        yield str(file.relative_to(folder.path)), _tail(file, LINES)
    yield "versions.txt", machine.versions()
    yield "hardware.txt", machine.hardware(folder.path)
    yield "environment.txt", machine.environment()
    say("running DeepSpeed's environment report, which takes some seconds ...")
    yield "operators.txt", machine.operators(plan.launch.device)


def _is_own(folder: Path, file: Path) -> bool:
    return is_regular(file) and is_below(file, folder)


def _tail(path: Path, lines: int | None) -> str:
    """The end of a text file, with a note on how much was left out."""
    size = path.stat().st_size
    given = read_end(path, _BYTES).splitlines(keepends=True)
    first = 0 if lines is None else max(0, len(given) - lines)
    left_out = size - len("".join(given[first:]).encode(errors="replace"))
    # From the start: a private key may begin before the lines that are kept.
    shown = "".join(list(redact_lines(given))[first:])
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
