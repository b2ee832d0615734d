"""`zpipe report RUN`: one archive for a bug report, without secrets."""

import argparse
from pathlib import Path

from zpipe.cli.find_run import folder_of
from zpipe.exits import Exit
from zpipe.problems import Problem, Refusal


def report(arguments: list[str]) -> int:
    """Raises Refusal if there is no such run, or if the archive exists already."""
    parser = argparse.ArgumentParser(prog="zpipe report", description=__doc__)
    parser.add_argument("run", help="run folder, or the beginning of an MLflow run id")
    parser.add_argument("--output", type=Path, help="the archive; zpipe-report-RUN.tar.gz unless given")
    parser.add_argument("--uri", help="MLflow store; outputs/mlflow.db unless given")
    options = parser.parse_args(arguments)
    folder = folder_of(options.run, options.uri)
    path = options.output or Path(f"zpipe-report-{folder.path.name}.tar.gz")
    _check(path)
    from zpipe.diagnose.archive import write_archive
    from zpipe.terminal.units import size

    names = write_archive(folder, path, lambda text: print(text, flush=True))
    print(f"{path}  ({size(path.stat().st_size)})")
    print("\n".join(f"  {name}" for name in names))
    print("Passwords and tokens were replaced by ***; look through it before you send it.")
    return Exit.FINISHED


def _check(path: Path) -> None:
    if path.exists():
        raise Refusal(
            [Problem("--output", str(path), "this file exists", "a new file", "--output OTHER.tar.gz")]
        )
    if not path.absolute().parent.is_dir():
        raise Refusal([Problem("--output", str(path), "there is no such folder")])
