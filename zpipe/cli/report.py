"""`zpipe report RUN`: writes an archive for a bug report, without secrets."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from zpipe.exits import Exit
from zpipe.problems import Problem, Refusal

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

OVERVIEW = {"report RUN": "write an archive for a bug report, without secrets"}


def add_arguments(parser: "ArgumentParser") -> None:
    parser.add_argument("run", metavar="RUN", help="run folder, or the beginning of an MLflow run id")
    parser.add_argument(
        "--output", type=Path, help="file name of the archive (default: zpipe-report-RUN.tar.gz)"
    )
    parser.add_argument("--uri", help="MLflow store (default: outputs/mlflow.db)")


def run(options: "Namespace") -> int:
    """Raises Refusal if the run does not exist, or if the archive exists or cannot be written."""
    from zpipe.cli.find_run import folder_of
    from zpipe.diagnose.archive import write_archive
    from zpipe.terminal.console import show
    from zpipe.terminal.units import size

    folder = folder_of(options.run, options.uri)
    path = options.output or Path(f"zpipe-report-{folder.path.name}.tar.gz")
    _check(path)
    names = write_archive(folder, path, show)
    show(f"{path}  ({size(path.stat().st_size)})")
    show("\n".join(f"  {name}" for name in names))
    show("Passwords and tokens were replaced by ***. Check the archive before you send it.")
    return Exit.FINISHED


def _check(path: Path) -> None:
    folder = path.absolute().parent
    if path.exists():
        reason, allowed = "this file exists", "a new file"
    elif not folder.is_dir():
        reason, allowed = "its folder does not exist", "a file in an existing folder"
    elif not os.access(folder, os.W_OK | os.X_OK):  # also detects read-only file systems
        reason, allowed = f"{folder} is not writable", "a file in a writable folder"
    else:
        return
    raise Refusal([Problem("--output", str(path), reason, allowed, "--output /path/to/new.tar.gz")])
