"""Which checkpoint a run continues from: the newest one that is undamaged."""

from collections.abc import Callable
from pathlib import Path

from zpipe.checkpoints.digests import OnBytes
from zpipe.checkpoints.folders import named_in
from zpipe.checkpoints.state import CheckpointState, inspect
from zpipe.problems import Problem, Refusal


def newest_good(
    run_dir: Path,
    run_id: str | None,
    on_skipped: Callable[[CheckpointState], None],
    on_bytes: OnBytes | None = None,
    *,
    quick: bool = False,
) -> CheckpointState | None:
    """The newest undamaged checkpoint, None without one. Raises Refusal for a checkpoint of another run.

    A quick choice compares names and sizes only.
    """
    for folder in named_in(run_dir):
        found = inspect(folder, run_id, on_bytes, quick=quick)
        if found.state == "good":
            return found
        if found.state == "other run":
            raise Refusal([_belongs_elsewhere(found)])
        on_skipped(found)
    return None


def _belongs_elsewhere(found: CheckpointState) -> Problem:
    return Problem(
        "resume",
        str(found.path),
        f"this checkpoint in the folder of the run was {found.damage[0]}",
        "checkpoints of this run",
        f"move {found.path.name} out of the run folder, or leave hydra.run.dir out",
    )
