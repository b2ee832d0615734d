"""`python -m zpipe.train.on_host RUN_DIR`: becomes a worker, with the environment that zpipe has for it.

Without one, as after a command that `zpipe plan` printed, the environment is that of the plan.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from zpipe.machine.handover import Handover, received

OF_THE_LAUNCH = (
    "RANK",
    "LOCAL_RANK",
    "WORLD_SIZE",
    "LOCAL_SIZE",
    "CROSS_RANK",
    "CROSS_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
    "CUDA_VISIBLE_DEVICES",
)
"""What DeepSpeed's watcher sets for each rank (deepspeed/launcher/launch.py)."""


def merged(here: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """The environment of the worker."""
    return {**here, **given, **{name: here[name] for name in OF_THE_LAUNCH if name in here}}


def main(run_dir: str) -> None:
    """Replaces this process, so that its watcher keeps the pid and the variables count from the start."""
    launch_id = os.environ.get("ZPIPE_LAUNCH_ID")
    try:
        given = received(launch_id) if launch_id else _of_the_plan(run_dir)
    except OSError as error:
        sys.exit(f"zpipe on this host does not answer, and without it this rank has no environment: {error}")
    if Path(given.folder).is_dir():
        os.chdir(given.folder)
    argv = [sys.executable, "-u", "-m", "zpipe.train", run_dir]
    os.execve(sys.executable, argv, merged(os.environ, given.environment))  # noqa: S606 - no shell is wanted


def _of_the_plan(run_dir: str) -> Handover:
    from zpipe.redact.names import HIDDEN
    from zpipe.runfolder.plan_file import read_plan

    variables = read_plan(Path(run_dir)).launch.env
    return Handover({name: value for name, value in variables.items() if HIDDEN not in value}, run_dir)


if __name__ == "__main__":
    main(sys.argv[1])
