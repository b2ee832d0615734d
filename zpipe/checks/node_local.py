"""Checkpoints on the local disks of the nodes (checkpoint.node_local)."""

from collections.abc import Iterator

from zpipe.facts.facts import Facts
from zpipe.problems import Problem, either
from zpipe.schema.experiment import Experiment
from zpipe.schema.resume import AUTO, NEVER

_KEY, _PATH = "checkpoint.node_local", "checkpoint.node_local_path"


def several_nodes_need_a_local_folder(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """The run folder is shared: there, the parts of the nodes would replace each other."""
    checkpoint = experiment.checkpoint
    if checkpoint.node_local and checkpoint.node_local_path is None and facts.nodes > 1:
        reason = "the nodes share the run folder, so each needs another folder for its part"
        fix = either(f"{_PATH}=/path/on/the/local/disk", f"{_KEY}=false")
        yield Problem(_PATH, "null", reason, "a folder on the local disk of each node", fix)


def a_local_folder_is_used_with_node_local(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Without node_local, checkpoints are in the run folder."""
    checkpoint = experiment.checkpoint
    if checkpoint.node_local_path is not None and not checkpoint.node_local:
        fix = either(f"{_KEY}=true", f"{_PATH}=null")
        yield Problem(_PATH, checkpoint.node_local_path, f"only used with {_KEY}=true", "null", fix)


def parts_on_nodes_begin_with_the_run(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """A given checkpoint is one folder, and every rank reads it."""
    checkpoint, given = experiment.checkpoint, experiment.resume.checkpoint
    if checkpoint.node_local and facts.nodes > 1 and given not in (AUTO, NEVER):
        reason = f"with {_KEY}=true each node would need its part of this checkpoint"
        fix = either("resume=auto", f"{_KEY}=false {_PATH}=null")
        yield Problem("resume.checkpoint", given, reason, "auto, never", fix)


def hosts_of_a_hostfile_save_together(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Their agents do not agree on a checkpoint."""
    if experiment.checkpoint.node_local and experiment.launcher.hostfile is not None:
        reason = "the hosts of a hostfile save into the run folder that they share"
        fix = either(f"{_KEY}=false {_PATH}=null", "launcher.hostfile=null")
        yield Problem(_KEY, True, reason, "false; true with launcher.nodes, or under Slurm", fix)


def pods_have_no_disk_of_their_own(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """What a pod has on its own disk ends with it, and volume claims are shared."""
    if experiment.checkpoint.node_local and experiment.launcher.type == "kubeflow":
        reason = "a pod that is started again has none of its local files"
        yield Problem(_KEY, True, reason, "false", either(f"{_KEY}=false {_PATH}=null"))


ERRORS = (
    pods_have_no_disk_of_their_own,
    hosts_of_a_hostfile_save_together,
    several_nodes_need_a_local_folder,
    a_local_folder_is_used_with_node_local,
    parts_on_nodes_begin_with_the_run,
)
