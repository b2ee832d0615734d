"""`zpipe record RUN_FOLDER`: bring MLflow up to date with what a run folder holds."""

from pathlib import Path

from zpipe.exits import Exit
from zpipe.plan import FILE_NAME
from zpipe.problems import Problem, Refusal


def record(arguments: list[str]) -> int:
    """Raises Refusal if the argument is no run folder."""
    if len(arguments) != 1 or not (Path(arguments[0]) / FILE_NAME).is_file():
        given = " ".join(arguments)
        raise Refusal(
            [Problem("record", given, "a run folder with a plan.json is expected", "outputs/DAY/TIME")]
        )
    from zpipe.abandoned import conclude_if_abandoned
    from zpipe.record.recorder import record_run

    run_dir = Path(arguments[0]).absolute()
    conclude_if_abandoned(run_dir)
    result = record_run(run_dir)
    run = f"MLflow run {result.run_id}" if result.run_id else "nothing to record: the input was refused"
    print(run if result.ok else f"{run}: {result.error}")
    return Exit.FINISHED if result.ok else Exit.RECORD_INCOMPLETE
