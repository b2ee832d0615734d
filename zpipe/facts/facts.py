"""Facts about machine, model and data that the whole compilation depends on, gathered once."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from zpipe.checkpoints.folders import bytes_of_checkpoints
from zpipe.checkpoints.home import home_of
from zpipe.data.inspection import Inspection, inspect
from zpipe.facts.hostfile import HostsRead, read_hosts
from zpipe.facts.liger import Liger, liger_of
from zpipe.facts.model import inspect_model
from zpipe.facts.shapes import Shapes
from zpipe.machine.hardware import Hardware
from zpipe.machine.target import target_hardware
from zpipe.plans.plan import ModelFacts
from zpipe.schema.batch import Batch
from zpipe.schema.experiment import Experiment

BF16_CAPABILITY = (8, 0)
"""NVIDIA Ampere, the first architecture with bf16 and TF32."""


@dataclass(frozen=True)
class Facts:
    hardware: Hardware
    """One node of the machine that the plan is for."""
    device: Literal["cuda", "cpu"]
    nproc_per_node: int
    nodes: int
    hosts: HostsRead
    """Of the hostfile; none without one."""
    world_size: int
    data_parallel_size: int
    """Processes that work on different sequences: the world size divided by the tensor-parallel size."""
    micro_batch: int
    """Sequences of one micro-batch on one device, as set or derived from train_batch_size."""
    accumulation: int
    """Micro-batches per optimizer step, as set or derived from train_batch_size."""
    dtype: Literal["fp32", "tf32", "fp16", "bf16"]
    total_steps: int | None
    """Optimizer steps; None if only the number of epochs is known."""
    liger: Liger
    model: ModelFacts
    model_folder: Path | None
    """Local, or in the hub's cache; None for random weights and for a model that must be downloaded."""
    parameter_numels: tuple[int, ...] | None
    """Elements of each parameter tensor; None if the model cannot be inspected yet."""
    parameter_shapes: Shapes | None
    """By name; None if the model cannot be inspected yet."""
    unexpected_weights: tuple[str, ...]
    """Tensors of the weight files that the model does not have."""
    data: Inspection
    run_dir: Path | None
    """None for a plan that is not for a run."""
    checkpoint_room: int | None
    """Bytes that the checkpoints of the run can take, those that it has included; None if unknown."""

    @property
    def parameter_dtype(self) -> Literal["fp32", "fp16", "bf16"]:
        """Of the model's parameters: tf32 only changes how fp32 matrices are multiplied."""
        return "fp32" if self.dtype == "tf32" else self.dtype


def gather(experiment: Experiment, here: Hardware, run_dir: Path | None = None) -> Facts:
    """`here` is this machine, and `run_dir` tells the disk.

    Raises Refusal if the model's folder is not a model folder, or the machine is not described completely.
    """
    launcher = experiment.launcher
    hardware = target_hardware(experiment.hardware, launcher, here)
    device: Literal["cuda", "cpu"] = "cpu"
    if launcher.device == "cuda" or (launcher.device == "auto" and hardware.gpus):
        device = "cuda"
    read = read_hosts(launcher)
    slots = len(read.hosts[0].slots) if read.hosts else None
    processes = slots or launcher.nproc_per_node or (len(hardware.gpus) if device == "cuda" else 1) or 1
    nodes = len(read.hosts) or launcher.nodes
    world_size = processes * nodes
    data_parallel = max(1, world_size // (experiment.deepspeed.tensor_parallel.autotp_size or 1))
    model = inspect_model(experiment.model)
    micro_batch, accumulation = _batch(experiment.batch, data_parallel)
    return Facts(
        hardware=hardware,
        device=device,
        nproc_per_node=processes,
        nodes=nodes,
        hosts=read,
        world_size=world_size,
        data_parallel_size=data_parallel,
        micro_batch=micro_batch,
        accumulation=accumulation,
        dtype=_dtype(experiment, hardware, device),
        total_steps=experiment.train.max_steps if experiment.train.max_steps > 0 else None,
        liger=liger_of(experiment, device, model.facts.config),
        model=model.facts,
        model_folder=model.folder,
        parameter_numels=model.parameter_numels,
        parameter_shapes=model.parameter_shapes,
        unexpected_weights=model.unexpected,
        data=inspect(experiment.data),
        run_dir=run_dir,
        checkpoint_room=_checkpoint_room(hardware, experiment, run_dir),
    )


def with_settings(facts: Facts, experiment: Experiment) -> Facts:
    """The facts for other settings with the same model, data, machine and processes; reads nothing again."""
    micro_batch, accumulation = _batch(experiment.batch, facts.data_parallel_size)
    liger = liger_of(experiment, facts.device, facts.model.config)
    return replace(facts, micro_batch=micro_batch, accumulation=accumulation, liger=liger)


def _checkpoint_room(hardware: Hardware, experiment: Experiment, run_dir: Path | None) -> int | None:
    if run_dir is None or hardware.free_disk is None:
        return None
    home = home_of(experiment.checkpoint, run_dir)
    try:
        return hardware.free_disk(home) + bytes_of_checkpoints(home)
    except OSError:  # a folder that cannot be read has a refusal of its own
        return None


def _batch(batch: Batch, data_parallel_size: int) -> tuple[int, int]:
    """Micro-batch size and accumulation, as DeepSpeed derives them from train_batch_size (runtime/config.py,
    _set_batch_related_parameters); at least 1. The rules refuse a train_batch_size that does not divide."""
    micro, accumulation, total = (
        batch.per_device_train_batch_size,
        batch.gradient_accumulation_steps,
        batch.sequences or 0,
    )
    if micro is None:
        accumulation = accumulation or 1
        return max(1, total // (data_parallel_size * accumulation)), accumulation
    return micro, accumulation or max(1, total // (micro * data_parallel_size))


def _dtype(
    experiment: Experiment, hardware: Hardware, device: Literal["cuda", "cpu"]
) -> Literal["fp32", "tf32", "fp16", "bf16"]:
    asked = experiment.precision.dtype
    if asked != "auto":
        return asked
    if device == "cpu":
        return "fp32"
    has_bf16 = all(gpu.compute_capability >= BF16_CAPABILITY for gpu in hardware.gpus)
    return "bf16" if has_bf16 else "fp16"
