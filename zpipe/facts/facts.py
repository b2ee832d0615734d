"""Facts about machine, model and data that the whole compilation depends on, gathered once."""

from dataclasses import dataclass
from typing import Literal

from zpipe.data.inspection import Inspection, inspect
from zpipe.facts.model import local_folder, model_facts, parameter_numels
from zpipe.machine.hardware import Hardware
from zpipe.plan.plan import ModelFacts
from zpipe.schema.batch import Batch
from zpipe.schema.experiment import Experiment

BF16_CAPABILITY = (8, 0)
"""NVIDIA Ampere, the first architecture with bf16 and TF32."""


@dataclass(frozen=True)
class Facts:
    hardware: Hardware
    device: Literal["cuda", "cpu"]
    nproc_per_node: int
    world_size: int
    data_parallel_size: int
    """Processes that work on different sequences: the world size divided by the tensor-parallel size."""
    accumulation: int
    """Micro-batches per optimizer step, as set or derived from train_batch_size."""
    dtype: Literal["fp32", "tf32", "fp16", "bf16"]
    total_steps: int | None
    """Optimizer steps; None if only the number of epochs is known."""
    model: ModelFacts
    parameter_numels: tuple[int, ...] | None
    """Elements of each parameter tensor; None if the model cannot be inspected yet."""
    data: Inspection

    @property
    def parameter_dtype(self) -> Literal["fp32", "fp16", "bf16"]:
        """Of the model's parameters: tf32 only changes how fp32 matrices are multiplied."""
        return "fp32" if self.dtype == "tf32" else self.dtype


def gather(experiment: Experiment, hardware: Hardware) -> Facts:
    """Raises Refusal if the model's folder is not a model folder."""
    launcher = experiment.launcher
    device: Literal["cuda", "cpu"] = "cpu"
    if launcher.device == "cuda" or (launcher.device == "auto" and hardware.gpus):
        device = "cuda"
    processes = launcher.nproc_per_node or (len(hardware.gpus) if device == "cuda" else 1) or 1
    data_parallel = max(1, processes // (experiment.deepspeed.tensor_parallel.autotp_size or 1))
    name = experiment.model.name_or_path
    model = model_facts(experiment.model)
    numels = parameter_numels(model.config, local_folder(name) if name else None)
    return Facts(
        hardware=hardware,
        device=device,
        nproc_per_node=processes,
        world_size=processes,
        data_parallel_size=data_parallel,
        accumulation=_accumulation(experiment.batch, data_parallel),
        dtype=_dtype(experiment, hardware, device),
        total_steps=experiment.train.max_steps if experiment.train.max_steps > 0 else None,
        model=model,
        parameter_numels=tuple(numels) if numels else None,
        data=inspect(experiment.data),
    )


def _accumulation(batch: Batch, data_parallel_size: int) -> int:
    """At least 1. The rules refuse a train_batch_size that is not a multiple of one pass."""
    if batch.gradient_accumulation_steps is not None:
        return batch.gradient_accumulation_steps
    one_pass = batch.per_device_train_batch_size * data_parallel_size
    return max(1, (batch.train_batch_size or one_pass) // one_pass)


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
