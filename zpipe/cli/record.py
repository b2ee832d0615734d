"""`zpipe record FOLDER`: bring MLflow up to date with what a run folder holds, or a sweep's."""

import argparse
from pathlib import Path

from zpipe.exits import Exit
from zpipe.problems import Problem, Refusal
from zpipe.runfolder.folder import RunFolder


def record(arguments: list[str]) -> int:
    """Raises Refusal if the argument is no run folder."""
    parser = argparse.ArgumentParser(prog="zpipe record", description=__doc__)
    parser.add_argument("folder", type=Path, help="run folder, or folder of a sweep")
    parser.add_argument("--uri", help="MLflow store, where it has a password; else the run's own")
    options = parser.parse_args(arguments)
    folder: Path = options.folder.absolute()
    if (folder / "sweep.json").is_file():
        return _record_sweep(folder, options.uri)
    if not RunFolder(folder).holds_run:
        reason = "a run folder with a plan.json is expected"
        raise Refusal([Problem("record", str(options.folder), reason, "outputs/DAY/TIME")])
    return _record_run(folder, options.uri)


def _record_run(folder: Path, uri: str | None) -> int:
    from zpipe.record.record_run import record_run
    from zpipe.run.recover import conclude_if_abandoned

    conclude_if_abandoned(folder)
    result = record_run(folder, uri=uri)
    run = f"MLflow run {result.run_id}" if result.run_id else "nothing to record: the input was refused"
    print(run if result.ok else f"{result.run_id or 'not recorded'}: {result.error}")
    return Exit.FINISHED if result.ok else Exit.RECORD_INCOMPLETE


def _record_sweep(folder: Path, uri: str | None) -> int:
    from zpipe.sweep.recording import record_sweep

    return record_sweep(folder, uri)
