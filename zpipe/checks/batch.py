"""Batch sizes, and the processes and GPUs that the batch is distributed to."""

from collections.abc import Iterator

from zpipe.facts.facts import Facts
from zpipe.problems import Problem, either
from zpipe.schema.experiment import Experiment


def global_batch_is_set_once(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Two names of the same size."""
    batch = experiment.batch
    if None not in (batch.global_batch_size, batch.train_batch_size) and (
        batch.global_batch_size != batch.train_batch_size
    ):
        key, other = "batch.global_batch_size", f"batch.train_batch_size={batch.train_batch_size}"
        fix = either(f"{key}=null", "batch.train_batch_size=null")
        yield Problem(key, batch.global_batch_size, f"contradicts {other}", "one of the two", fix)


def batch_sizes_are_consistent(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """DeepSpeed requires train_batch_size = micro-batch x accumulation x data-parallel processes."""
    batch = experiment.batch
    one_pass = facts.micro_batch * facts.data_parallel_size
    product = one_pass * facts.accumulation
    asked, key = batch.sequences, batch.sequences_key
    if asked is None or asked == product:
        return
    arithmetic = (
        f"per_device_train_batch_size {facts.micro_batch} x gradient_accumulation_steps "
        f"{facts.accumulation} x {facts.data_parallel_size} data-parallel process(es) is {product}"
    )
    if batch.per_device_train_batch_size is None:
        yield _not_divisible(key, asked, facts)
        return
    if batch.gradient_accumulation_steps is not None and asked % one_pass == 0:
        fix = either("batch.gradient_accumulation_steps=null", f"{key}={product}")
        yield Problem(key, asked, arithmetic, f"{product}, or null", fix)
        return
    below, above = asked // one_pass * one_pass, -(-asked // one_pass) * one_pass
    nearest = [size for size in (below, above) if size > 0]
    fixes = either(*(f"{key}={size} batch.gradient_accumulation_steps=null" for size in nearest))
    reason = f"not a multiple of the {one_pass} sequences that all processes handle in one pass"
    yield Problem(key, asked, reason, ", ".join(map(str, nearest)), fixes)


def _not_divisible(key: str, asked: int, facts: Facts) -> Problem:
    """The micro-batch size is derived, and would not be a whole number."""
    processes, accumulation = facts.data_parallel_size, facts.accumulation
    micro_batches = processes * accumulation
    below, above = asked // micro_batches * micro_batches, -(-asked // micro_batches) * micro_batches
    sizes = [size for size in (below, above) if size > 0]
    reason = f"not a multiple of the {micro_batches} micro-batches of one step on all processes"
    fix = either(*(f"{key}={size}" for size in sizes))
    return Problem(key, asked, reason, ", ".join(map(str, sizes)), fix)


def processes_have_devices(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """One GPU for each process, and a single process without a launcher."""
    launcher, gpus = experiment.launcher, len(facts.hardware.gpus)
    if launcher.device == "cuda" and gpus == 0:
        yield Problem(
            "launcher.device",
            "cuda",
            "no GPU is visible, or PyTorch is a CPU build",
            "cpu, auto",
            either("launcher.device=auto"),
        )
    elif facts.hosts.hosts and facts.device == "cuda":
        yield from _slots_without_a_gpu(experiment, facts)
    elif facts.device == "cuda" and facts.nproc_per_node > gpus:
        yield Problem(
            "launcher.nproc_per_node",
            facts.nproc_per_node,
            f"only {gpus} GPU{'s are' if gpus > 1 else ' is'} visible",
            f"1 to {gpus}" if gpus > 1 else "1",
            either(f"launcher.nproc_per_node={gpus}"),
        )


def _slots_without_a_gpu(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Slots are indices of GPUs. Each host compiles the plan for its own."""
    gpus = len(facts.hardware.gpus)
    highest = max(slot for host in facts.hosts.hosts for slot in host.slots)
    if highest >= gpus:
        reason = f"it uses slot {highest}, and this machine has {gpus} GPU{'s' if gpus > 1 else ''}"
        allowed = f"slots 0 to {gpus - 1}, from a machine like the hosts" if gpus else "a machine with GPUs"
        fix = either("launcher.hostfile=null")
        yield Problem("launcher.hostfile", experiment.launcher.hostfile, reason, allowed, fix)


ERRORS = (global_batch_is_set_once, batch_sizes_are_consistent, processes_have_devices)
