"""Batch arithmetic, and the processes that it is spread over."""

from collections.abc import Iterator

from zpipe.facts.facts import Facts
from zpipe.problems import Problem
from zpipe.schema.experiment import Experiment


def batch_is_the_product(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """DeepSpeed demands train_batch_size = micro-batch x accumulation x world size."""
    batch = experiment.batch
    if batch.train_batch_size is None:
        return
    one_pass = batch.per_device_train_batch_size * facts.world_size
    product = one_pass * batch.gradient_accumulation_steps
    if batch.train_batch_size == product:
        return
    accumulation, rest = divmod(batch.train_batch_size, one_pass)
    fix = f"batch.train_batch_size={product}"
    if rest == 0:
        fix = f"batch.gradient_accumulation_steps={accumulation}, or {fix}"
    yield Problem(
        "batch.train_batch_size",
        batch.train_batch_size,
        f"per_device_train_batch_size {batch.per_device_train_batch_size} x gradient_accumulation_steps "
        f"{batch.gradient_accumulation_steps} x world size {facts.world_size} is {product}",
        f"{product}, or null",
        fix,
    )


def processes_have_devices(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """One GPU for each process, and one process where there is no launcher."""
    launcher, gpus = experiment.launcher, len(facts.hardware.gpus)
    if launcher.device == "cuda" and gpus == 0:
        yield Problem(
            "launcher.device",
            "cuda",
            "no GPU is visible, or PyTorch is a CPU build",
            "cpu, auto",
            "launcher.device=auto",
        )
    elif facts.device == "cuda" and facts.nproc_per_node > gpus:
        yield Problem(
            "launcher.nproc_per_node",
            facts.nproc_per_node,
            f"{gpus} GPUs are visible",
            f"1 to {gpus}",
            f"launcher.nproc_per_node={gpus}",
        )
    if launcher.type == "inprocess" and facts.nproc_per_node > 1:
        yield Problem(
            "launcher.nproc_per_node",
            facts.nproc_per_node,
            "launcher=inprocess has one process",
            "1",
            "launcher=torchrun, or launcher.nproc_per_node=1",
        )


ERRORS = (batch_is_the_product, processes_have_devices)
