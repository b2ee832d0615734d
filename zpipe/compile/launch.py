"""The command that starts the workers, and the variables added to their environment."""

import os
import sys
from pathlib import Path

from zpipe.facts.facts import Facts
from zpipe.launchers import argv_of
from zpipe.plan.plan import Launch
from zpipe.schema.experiment import Experiment


def launch_of(experiment: Experiment, facts: Facts, run_dir: Path) -> Launch:
    """The launch part of the plan."""
    return Launch(
        launcher=experiment.launcher.type,
        device=facts.device,
        nproc_per_node=facts.nproc_per_node,
        world_size=facts.world_size,
        argv=argv_of(experiment.launcher.type, run_dir, facts.nproc_per_node),
        env=_environment(experiment, facts),
    )


def _environment(experiment: Experiment, facts: Facts) -> dict[str, str]:
    """Variables that differ from the parent's. `launcher.env` takes precedence."""
    environment = {
        # ninja and other build tools are next to the interpreter, which may not be on the PATH.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "PYTHONUNBUFFERED": "1",
        "TOKENIZERS_PARALLELISM": "false",
        # torchrun sets 1 if there are several ranks, which slows down CPU Adam and gloo.
        "OMP_NUM_THREADS": str(max(1, facts.hardware.cores // facts.nproc_per_node)),
    }
    if facts.device == "cpu":
        environment["DS_ACCELERATOR"] = "cpu"
    return {**environment, **experiment.launcher.env}
