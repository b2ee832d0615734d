"""The DeepSpeed operators that a run loads and, on first use, builds."""

from zpipe.facts.facts import Facts
from zpipe.facts.implementation import uses_torch_adam
from zpipe.schema.experiment import Experiment

ON_THE_HOST = {
    "Adam": "cpu_adam",
    "AdamW": "cpu_adam",
    "Muon": "cpu_adam",
    "Adagrad": "cpu_adagrad",
    "Lion": "cpu_lion",
}
ON_THE_DEVICE = {
    "Adam": "fused_adam",
    "AdamW": "fused_adam",
    "Muon": "fused_adam",
    "Lion": "fused_lion",
    "Lamb": "fused_lamb",
}


def operators_of(experiment: Experiment, facts: Facts) -> list[str]:
    """The NAME of each DeepSpeed builder, in the order in which the operators are needed."""
    offload, kind = experiment.offload, experiment.optimizer.type
    names = []
    if "nvme" in (offload.offload_optimizer.device, offload.offload_param.device):
        names.append("async_io")
    by_place = ON_THE_HOST if offload.offload_optimizer.device != "none" else ON_THE_DEVICE
    if kind in by_place and not uses_torch_adam(experiment, facts):
        names.append(by_place[kind])
    return names
