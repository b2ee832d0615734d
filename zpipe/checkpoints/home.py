"""Where the checkpoints of a run are: in its folder, or on the local disk of each of its nodes."""

from pathlib import Path

from zpipe.paths import expanded
from zpipe.plans.plan import Plan
from zpipe.problems import Refusal
from zpipe.runfolder.folder import RunFolder, private_name
from zpipe.runfolder.plan_file import read_plan_here
from zpipe.schema.checkpoint import Checkpoint


def home_of(settings: Checkpoint, run_dir: Path) -> Path:
    """The folder of the checkpoints of the run in `run_dir`: a local one has a name of its own there."""
    if not settings.node_local or settings.node_local_path is None:
        return run_dir
    return expanded(settings.node_local_path).absolute() / private_name(run_dir)


def checkpoint_home(plan: Plan) -> Path:
    """The same of a plan, on this node."""
    return home_of(plan.experiment.checkpoint, Path(plan.run_dir))


def is_divided(plan: Plan) -> bool:
    """Whether each node has a part of every checkpoint, its own."""
    return plan.experiment.checkpoint.node_local and plan.launch.nodes > 1


def home_in(folder: RunFolder) -> Path:
    """The checkpoints, on this machine, of the run in a folder; its own if its plan cannot be read."""
    try:
        return checkpoint_home(read_plan_here(folder))
    except Refusal:
        return folder.path
