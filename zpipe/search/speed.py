"""How long an optimizer step takes.

A sum of rates, fitted to runs of two models on H200 and H100 GPUs (benchmarks/speed_points.json). It ranks
settings; its figures are right within about ten percent for these models.
"""

from dataclasses import dataclass

from zpipe.search.workload import Setup, Workload

_FUSED, _PLAIN = 0.608, 0.467
"""Share of the peak that Liger's kernels and transformers' own reach, with large batches."""
_COMPILED, _COMPILED_PLAIN = 0.617, 0.52
"""The same of compiled layers, with Liger's fused loss and with transformers'."""
_COMPILING = 20.0
"""Seconds of the first step."""
_RECOMPUTING = 1.25
"""Times the arithmetic: a second forward pass takes less than a third, because it has no loss."""
_OVERHEAD = 0.013
"""Seconds of a micro-batch that do not depend on its size."""
_LAUNCH, _HOOKS, _HOOKS_RECOMPUTING = 0.00074, 0.00323, 0.0044
"""The host needs this long for the kernels of a tensor below stage 3, and for the hooks of a matrix at
stage 3 (with recomputation): a small micro-batch waits for it."""
_LAUNCH_RECOMPUTING = 1.3
_UPDATE = 36e-12
"""Seconds for a parameter with optimizer states on a GPU with a peak of `_FITTED_PEAK`."""
_FITTED_PEAK = 989e12
_STAGE_2, _STAGE_3 = 8e-12, 16e-12
"""Seconds of a micro-batch for a parameter: copies into buckets and partitions."""
_CPU_ADAM = 0.5e-9
"""Seconds for a parameter on `_FITTED_CORES` cores; more than `_USEFUL_CORES` do not help, because the
limit is host memory."""
_FITTED_CORES, _USEFUL_CORES = 16, 32
_OF_LINK = 0.7
"""Share of its bandwidth that a link reaches."""
_UNPINNED = 0.4
"""Share of that from memory that is not page-locked."""
_EXPOSED = 0.5
"""Share of stage 3's collectives that computation does not hide."""
_STATES = 12
"""Bytes of a parameter's master weight and two states."""


@dataclass(frozen=True)
class StepTime:
    """Seconds of one optimizer step."""

    compute: float
    launches: float
    """What micro-batches wait for the host, beyond their computation."""
    update: float
    collectives: float
    transfers: float
    """Between GPU and host memory."""
    disk: float
    compilation: float
    """Of the first step, shared by all steps of the run."""

    @property
    def total(self) -> float:
        """Seconds."""
        parts: list[float] = list(vars(self).values())
        return sum(parts)

    @property
    def largest(self) -> str:
        """The part that takes longest."""
        return max(vars(self).items(), key=lambda part: part[1])[0]


def tokens_per_second(work: Workload, setup: Setup) -> float:
    """Of all ranks."""
    sequences = setup.micro_batch * setup.accumulation * work.ranks
    return sequences * work.tokens / step_time(work, setup).total


def step_time(work: Workload, setup: Setup) -> StepTime:
    """Of one optimizer step with all its micro-batches."""
    computing = _OVERHEAD + _arithmetic(work, setup) + _copies(work, setup)
    waiting = max(0.0, _launching(work, setup) - computing)
    return StepTime(
        compute=setup.accumulation * computing,
        launches=setup.accumulation * waiting,
        update=_update(work, setup),
        collectives=_collectives(work, setup),
        transfers=_transfers(work, setup),
        disk=_disk(work, setup),
        compilation=_COMPILING / work.steps if setup.is_compiled and work.steps else 0.0,
    )


def _arithmetic(work: Workload, setup: Setup) -> float:
    rate = work.peak * _share_of_peak(work, setup)
    once = work.flops_per_token * work.tokens * setup.micro_batch / rate
    return once * _RECOMPUTING if setup.recomputes else once


def _share_of_peak(work: Workload, setup: Setup) -> float:
    if setup.is_compiled and setup.stage < 3:
        return _COMPILED if work.has_fused_loss else _COMPILED_PLAIN
    return _FUSED if work.has_fused_layers else _PLAIN


def _copies(work: Workload, setup: Setup) -> float:
    each = {2: _STAGE_2, 3: _STAGE_3}.get(setup.stage, 0.0)
    return each * work.parameters * _FITTED_PEAK / work.peak


def _launching(work: Workload, setup: Setup) -> float:
    """Seconds that the host needs to launch a micro-batch."""
    if setup.stage == 3:
        return (_HOOKS_RECOMPUTING if setup.recomputes else _HOOKS) * work.matrices
    return _LAUNCH * work.tensors * (_LAUNCH_RECOMPUTING if setup.recomputes else 1.0)


def _partition(work: Workload, setup: Setup) -> float:
    return work.parameters / (work.ranks if setup.stage else 1)


def _update(work: Workload, setup: Setup) -> float:
    own = _partition(work, setup)
    on_host = 0.0 if setup.optimizer_device == "none" else setup.on_host * own
    on_gpu = _UPDATE * _FITTED_PEAK / work.peak
    on_cpu = _CPU_ADAM * _FITTED_CORES / min(work.cores, _USEFUL_CORES)
    return (own - on_host) * on_gpu + on_host * on_cpu


def _collectives(work: Workload, setup: Setup) -> float:
    """Gradients are reduced and parameters gathered; stage 3 gathers them for each pass again."""
    once = work.element * work.parameters * (work.ranks - 1) / work.ranks / (_OF_LINK * work.link)
    if setup.stage == 3:
        return _EXPOSED * setup.accumulation * (4 if setup.recomputes else 3) * once
    return once * (1 + (setup.accumulation if setup.stage == 2 else 1))


def _transfers(work: Workload, setup: Setup) -> float:
    rate = _OF_LINK * work.host_link * (1.0 if setup.is_pinned else _UNPINNED)
    own, bytes_ = work.element * _partition(work, setup), 0.0
    if setup.optimizer_device != "none":
        bytes_ += setup.on_host * own * (1 + setup.accumulation)
    if setup.parameter_device != "none":
        bytes_ += own * setup.accumulation * (3 if setup.recomputes else 2)
    return bytes_ / rate


def _disk(work: Workload, setup: Setup) -> float:
    """All ranks of a node share its disk."""
    read, written = 0.0, 0.0
    if setup.optimizer_device == "nvme":
        read, written = _STATES, _STATES
    if setup.parameter_device == "nvme":
        read += work.element * setup.accumulation * (3 if setup.recomputes else 2)
        written += work.element
    each = read / work.disk_read + written / work.disk_write
    return each * _partition(work, setup) * work.ranks_per_node
