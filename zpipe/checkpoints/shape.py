"""The shape of a checkpoint: how many processes hold it, and at which stage of ZeRO.

A checkpoint of another shape is distributed anew while it is loaded (zpipe/train/reshaping.py). What cannot
be distributed is refused here, before anything is started.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from zpipe.checkpoints.manifest import Manifest
from zpipe.plans.effective import in_effect
from zpipe.plans.given import Given
from zpipe.plans.plan import Plan
from zpipe.problems import Problem

_DEEPSPEED = ("FusedAdam", "DeepSpeedCPUAdam", "FusedLion", "DeepSpeedCPULion")
ELEMENTWISE = frozenset(
    {*_DEEPSPEED, "Adam", "AdamW", "SGD", "RMSprop", "NAdam", "RAdam", "Adamax", "Adadelta"}
)
"""Optimizers whose states have a value for each element of a parameter and do not depend on the others."""


@dataclass(frozen=True)
class Shape:
    processes: int
    stage: int

    def __str__(self) -> str:
        processes = "1 process" if self.processes == 1 else f"{self.processes} processes"
        return f"{processes} at stage {self.stage}"

    @property
    def overrides(self) -> str:
        """What gives a run this shape."""
        return f"launcher.nproc_per_node={self.processes} stage={self.stage}"


def shape_of(plan: Plan) -> Shape:
    """The shape in which the run trains."""
    return Shape(plan.launch.world_size, int(plan.ds_config.get("zero_optimization", {}).get("stage", 0)))


def saved_shape(manifest: Manifest) -> Shape:
    """The shape in which a checkpoint was written."""
    return Shape(manifest.world_size, manifest.stage)


def is_distributed_anew(saved: Shape, wanted: Shape) -> bool:
    """At stage 0, every process has everything: its checkpoints can be loaded as they are."""
    return saved != wanted and saved.stage + wanted.stage > 0


def state_kind(optimizer: str) -> str:
    """Optimizers of one kind have the same states: the class of torch without DeepSpeed's variants."""
    kind = optimizer.removeprefix("DeepSpeedCPU").removeprefix("Fused")
    return "Adam" if kind == "AdamW" else kind


def shape_problems(plan: Plan, manifest: Manifest) -> list[Problem]:
    """Why the run cannot go on from a checkpoint of this shape."""
    saved, wanted = saved_shape(manifest), shape_of(plan)
    if not is_distributed_anew(saved, wanted):
        return []
    way_out = f"{in_effect(saved.overrides, Given(plan.provenance))}, the shape of the checkpoint"
    return [
        Problem(key, value, f"{reason}: the checkpoint is of {saved}, the run of {wanted}", allowed, way_out)
        for key, value, reason, allowed in _obstacles(plan, manifest, saved, wanted)
    ]


def _obstacles(
    plan: Plan, manifest: Manifest, saved: Shape, wanted: Shape
) -> Iterator[tuple[str, object, str, str]]:
    """Key, value, reason, and what is allowed."""
    experiment = plan.experiment
    if 0 in (saved.stage, wanted.stage):
        yield "stage", wanted.stage, "stage 0 and the others have nothing in common", f"{saved.stage}"
    on_nvme = sorted(part for part, device in manifest.offload.items() if device == "nvme")
    for part in on_nvme:
        key = "offload.offload_param" if part == "parameters" else "offload.offload_optimizer"
        reason = "swap files on NVMe belong to their processes, and cannot be distributed anew"
        yield f"{key}.device", "nvme", reason, "none, cpu"
    if plan.engine.optimizer not in ELEMENTWISE:
        reason = "its states cannot be distributed anew"
        yield "optimizer", plan.engine.optimizer, reason, ", ".join(sorted(ELEMENTWISE))
    optim = experiment.optimizer.optim
    if optim is not None and ("8bit" in optim or "paged" in optim):
        yield "optimizer.optim", optim, "its states are quantized in blocks, or paged", "adamw_torch"
    group, sequence = (
        experiment.deepspeed.tensor_parallel.autotp_size,
        experiment.deepspeed.sequence_parallel_size,
    )
    for key, size in (("tensor_parallel.autotp_size", group), ("sequence_parallel_size", sequence)):
        if size is not None and size > 1:
            yield f"deepspeed.{key}", size, "groups of processes share a model or a sequence", "1, null"
    if experiment.stage.elastic_checkpoint:
        yield "stage.elastic_checkpoint", True, "legacy checkpoints have another format", "null"
    if experiment.offload.offload_optimizer.super_offload:
        key = "offload.offload_optimizer.super_offload"
        yield key, True, "SuperOffload's states cannot be distributed anew", "null"
