"""The numbers that a memory prediction is computed from, gathered once for a plan."""

from dataclasses import dataclass, replace
from functools import cached_property

from zpipe.facts.facts import Facts
from zpipe.facts.implementation import implementation
from zpipe.memory.optimizer_states import states_per_parameter
from zpipe.memory.zero_sizes import ZeroSizes, zero_sizes
from zpipe.schema.experiment import Experiment

FP32 = 4
_PASSES = 3
"""All later micro-batches of a step repeat the third."""


@dataclass(frozen=True)
class Sizes:
    """Bytes of an element, and counts of elements."""

    stage: int
    ranks: int
    """That partition the states."""
    parameters: tuple[int, ...]
    """Elements of each parameter, in the order of the modules."""
    element: int
    """Bytes of a parameter."""
    master: int
    """Bytes of a master weight, and of the gradient that updates it; 0 without one."""
    state: int
    """Bytes of all optimizer states of an element."""
    gradient: int
    """Bytes of a gradient while it is accumulated."""
    zero: ZeroSizes
    optimizer_device: str
    parameter_device: str
    on_host: float
    """The fraction of the states on the host."""
    is_pinned: bool
    accumulation: int
    """Micro-batches of a step that are played."""
    optimizer_work: int
    """Bytes of temporary values for each element that is updated; a fused kernel has none."""
    updates_together: bool
    """Whether PyTorch's optimizers update all tensors at once, and not one after the other."""
    is_one_pass: bool
    """Whether the gradients of stage 0 are copied into one tensor, and dropped before the update."""

    @property
    def total(self) -> int:
        return sum(self.parameters)

    @property
    def partition(self) -> int:
        """Elements of one rank."""
        return -(-self.total // self.ranks)

    @property
    def largest(self) -> int:
        return max(self.parameters)

    @property
    def persistent(self) -> int:
        """Elements of parameters that stage 3 does not partition."""
        return sum(each for each in self.parameters if each < self.zero.persistence)

    @cached_property
    def sub_groups(self) -> list[int]:
        """Elements of the partitions that stage 3 updates together (stage3.py: _create_fp16_sub_groups)."""
        groups, current = [], 0
        for elements in self.parameters:
            current += -(-elements // self.ranks)
            if current >= self.zero.sub_group:
                groups.append(current)
                current = 0
        return [*groups, current] if current else groups

    @property
    def sub_groups_on_gpu(self) -> list[int]:
        """Those that are not offloaded (stage3.py: _create_fp32_partitions)."""
        if not self.is_offloaded:
            return self.sub_groups
        return self.sub_groups[: int((1 - self.on_host) * len(self.sub_groups))]

    @property
    def is_offloaded(self) -> bool:
        return self.optimizer_device != "none"


def _touched(zero: ZeroSizes, total: int, device: str) -> ZeroSizes:
    """In host memory, a buffer takes only the pages that were written."""
    return zero if device == "cuda" else replace(zero, reduce_bucket=min(zero.reduce_bucket, total))


def sizes_of(experiment: Experiment, facts: Facts) -> Sizes | None:
    """None if model or optimizer are of an unknown size, or AutoTP splits the layers."""
    states = states_per_parameter(experiment.optimizer)
    is_split = facts.data_parallel_size < facts.world_size
    if facts.parameter_numels is None or states is None or is_split:
        return None
    offload, precision = experiment.offload, experiment.precision
    element = 4 if facts.parameter_dtype == "fp32" else 2
    low = precision.bf16.bf16_master_weights_and_grads or precision.fp16.fp16_master_weights_and_grads
    has_master = experiment.stage.stage > 0 or element != FP32
    master = (element if low else FP32) if has_master else 0
    state = 2 if precision.bf16.bf16_optimizer_states else FP32
    accumulated = precision.data_types.grad_accum_dtype
    pinned = offload.offload_optimizer.pin_memory
    is_fused = facts.device == "cuda" and _is_fused(experiment, facts)
    updates_together = facts.device == "cuda"
    return Sizes(
        stage=experiment.stage.stage,
        ranks=facts.data_parallel_size if experiment.stage.stage else 1,
        parameters=facts.parameter_numels,
        element=element,
        master=master,
        state=states * state,
        gradient=element if accumulated is None else 4 if accumulated == "fp32" else 2,
        zero=_touched(zero_sizes(experiment, facts), sum(facts.parameter_numels), facts.device),
        optimizer_device=offload.offload_optimizer.device,
        parameter_device=offload.offload_param.device,
        on_host=1.0 if offload.offload_optimizer.ratio is None else offload.offload_optimizer.ratio,
        is_pinned=facts.device == "cuda" and (offload.pin_memory if pinned is None else pinned) is not False,
        accumulation=min(facts.accumulation, _PASSES),
        optimizer_work=0 if is_fused else FP32 if updates_together else 2 * FP32,
        updates_together=updates_together,
        is_one_pass=is_fused and experiment.optimizer.type in ("Adam", "AdamW"),
    )


def _is_fused(experiment: Experiment, facts: Facts) -> bool:
    """PyTorch's own optimizers keep the root of the second moments of all parameters for a moment."""
    optimizer = experiment.optimizer
    if optimizer.type is None:
        return (optimizer.optim or "").endswith("_fused")
    return implementation(experiment, facts) == "fused"
