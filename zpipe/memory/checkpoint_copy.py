"""Host memory for the copy from which a checkpoint is written while the training goes on."""

from dataclasses import dataclass

from zpipe.facts.facts import Facts
from zpipe.memory.checkpoint_size import checkpoint_bytes, state_bytes_per_element
from zpipe.schema.experiment import Experiment


@dataclass(frozen=True)
class CopyNeed:
    """Bytes, of all processes of the machine together."""

    copy: int
    beside: int
    """Parameters, gradients and states that are on the host anyway."""
    memory: int
    """What the machine has."""

    @property
    def fits(self) -> bool:
        return self.copy + self.beside <= self.memory


def copy_need(experiment: Experiment, facts: Facts) -> CopyNeed | None:
    """None if the run saves no checkpoints, or if their size is unknown."""
    copy = checkpoint_bytes(experiment, facts)
    if copy is None or experiment.checkpoint.save_strategy == "no":
        return None
    nodes = facts.nodes  # each has its share
    return CopyNeed(copy // nodes, _beside(experiment, facts) // nodes, facts.hardware.memory)


def _beside(experiment: Experiment, facts: Facts) -> int:
    elements = facts.model.parameters or 0
    parameter = 4 if facts.parameter_dtype == "fp32" else 2
    states = state_bytes_per_element(experiment, facts) or 0
    offload, on_cpu = experiment.offload, facts.device == "cpu"
    count = 0
    if on_cpu or offload.offload_param.device == "cpu":
        count += parameter
    if on_cpu or offload.offload_optimizer.device == "cpu":
        count += parameter + states
    return count * elements
