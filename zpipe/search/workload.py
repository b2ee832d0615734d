"""What the time of a step depends on, apart from the settings that are searched."""

from dataclasses import dataclass

from zpipe.facts.facts import Facts
from zpipe.memory.flops import training_flops
from zpipe.schema.experiment import Experiment

_PEAK, _LINK, _HOST_LINK, _NETWORK, _DISK = 3e14, 2e10, 2e10, 2.5e10, 1.4e9
"""For unknown hardware: FLOP/s and bytes per second. The ranking hardly depends on them."""
_CORE_PEAK = 5e10
"""FLOP/s of a core, where a CPU trains: only the arithmetic is slower there, which ranks micro-batches."""
_GB = 1e9


@dataclass(frozen=True)
class Workload:
    """The model on the machine. Rates in bytes per second, times in seconds."""

    parameters: int
    tensors: int
    matrices: int
    flops_per_token: float
    tokens: int
    """Of one sequence."""
    element: int
    """Bytes of a parameter."""
    has_fused_layers: bool
    has_fused_loss: bool
    steps: int | None
    """Of the run; None if they are not known."""
    peak: float
    """FLOP/s of one GPU."""
    ranks: int
    """That work on different sequences."""
    ranks_per_node: int
    cores: int
    """Of one rank."""
    link: float
    """Between ranks, at its slowest place."""
    host_link: float
    disk_read: float
    disk_write: float
    assumed: tuple[str, ...]
    """What is not known of the machine."""


@dataclass(frozen=True)
class Setup:
    """What is searched."""

    stage: int
    optimizer_device: str
    parameter_device: str
    on_host: float
    """The fraction of the optimizer states that is offloaded."""
    is_pinned: bool
    recomputes: bool
    is_compiled: bool
    micro_batch: int
    accumulation: int


def workload_of(experiment: Experiment, facts: Facts, *, on_cpu: bool = False) -> Workload | None:
    """None if the sizes of the model are not known, and on a CPU unless that is asked for."""
    if facts.parameter_numels is None or facts.parameter_shapes is None:
        return None
    if facts.device == "cpu" and not on_cpu:
        return None
    flops, parameters = training_flops(experiment, facts), sum(facts.parameter_numels)
    length, hardware = experiment.data.max_length, facts.hardware
    gpu = hardware.gpus[0] if hardware.gpus else None
    peak, host_link = flops.peak if flops else None, gpu.host_link_gb_s if gpu else None
    link, nvme = _link(facts), hardware.nvme
    known = {
        "the peak of the GPU": peak,
        "the links between the GPUs": link,
        "the link to host memory": host_link,
    }
    slower = 1.0
    if facts.device == "cpu":
        known, slower = {"the speed of the CPU": None}, _PEAK / (_CORE_PEAK * hardware.cores)
    return Workload(
        parameters=parameters,
        tensors=len(facts.parameter_numels),
        matrices=sum(len(shape) > 1 for shape in facts.parameter_shapes.values()),
        flops_per_token=slower * (flops.per_token(length) if flops else 6.0 * parameters),
        tokens=length,
        element=4 if facts.parameter_dtype == "fp32" else 2,
        has_fused_layers=facts.liger.replaces_layers,
        has_fused_loss=facts.liger.fuses_loss,
        steps=experiment.train.max_steps if experiment.train.max_steps > 0 else None,
        peak=peak or _PEAK,
        ranks=facts.data_parallel_size,
        ranks_per_node=facts.nproc_per_node,
        cores=max(1, hardware.cores // facts.nproc_per_node),
        link=link or (_LINK if facts.nodes == 1 else _NETWORK),
        host_link=host_link * _GB if host_link else _HOST_LINK,
        disk_read=nvme.read_gb_s * _GB if nvme.read_gb_s else _DISK,
        disk_write=nvme.write_gb_s * _GB if nvme.write_gb_s else _DISK,
        assumed=tuple(name for name, value in known.items() if value is None),
    )


def setup_of(experiment: Experiment, facts: Facts) -> Setup:
    offload = experiment.offload
    optimizer = offload.offload_optimizer
    pinned = offload.pin_memory if optimizer.pin_memory is None else optimizer.pin_memory
    own = experiment.activation_checkpointing.enabled
    return Setup(
        stage=experiment.stage.stage,
        optimizer_device=optimizer.device,
        parameter_device=offload.offload_param.device,
        on_host=1.0 if optimizer.ratio is None else optimizer.ratio,
        is_pinned=pinned is not False,
        recomputes=experiment.train.gradient_checkpointing or own,
        is_compiled=experiment.train.is_compiled,
        micro_batch=facts.micro_batch,
        accumulation=facts.accumulation,
    )


def _link(facts: Facts) -> float | None:
    """A node's link to the others carries what one GPU's link carries, because its GPUs share the work."""
    gpu, network = facts.hardware.gpus[0] if facts.hardware.gpus else None, facts.hardware.network_gb_s
    if facts.world_size == 1:
        return _LINK
    within = gpu.link_gb_s if gpu is not None else None
    if facts.nodes == 1:
        return within * _GB if within else None
    return min(within or network, network) * _GB if network else None
