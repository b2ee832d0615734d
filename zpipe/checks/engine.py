"""Activation checkpointing, compilation and profiling."""

from collections.abc import Iterator

from zpipe.facts.facts import Facts
from zpipe.plan.plan import Notice
from zpipe.problems import Problem
from zpipe.schema.base import Group
from zpipe.schema.experiment import Experiment


def one_activation_checkpointing(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Two of them would recompute each layer twice."""
    if experiment.activation_checkpointing.enabled and experiment.train.gradient_checkpointing:
        yield Problem(
            "train.gradient_checkpointing",
            True,
            "DeepSpeed's activation checkpointing is on already",
            "one of the two",
            "train.gradient_checkpointing=false, or activation_checkpointing=none",
        )


def checkpointing_keys_act(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """The block configures deepspeed.checkpointing, which transformers' own checkpointing never calls."""
    block = experiment.activation_checkpointing
    if block.enabled:
        return
    for name, value in block.model_dump(exclude_none=True, exclude={"enabled"}).items():
        key = f"activation_checkpointing.{name}"
        reason = "acts in DeepSpeed's activation checkpointing, which is off"
        yield Problem(key, value, reason, "null", f"activation_checkpointing.enabled=true, or {key}=null")


def contiguous_checkpoints_are_counted(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """checkpointing.py: contiguous memory needs partitioned activations and the number of checkpoints."""
    block = experiment.activation_checkpointing
    if not (block.enabled and block.contiguous_memory_optimization):
        return
    layers = facts.model.config.get("num_hidden_layers", 1)
    key = "activation_checkpointing.contiguous_memory_optimization"
    if not block.partition_activations:
        reason = "needs partitioned activations"
        fix = f"activation_checkpointing.partition_activations=true, or {key}=null"
        yield Problem(key, True, reason, "null without partition_activations", fix)
    if block.number_checkpoints is None:
        fix = f"activation_checkpointing.number_checkpoints={layers}, or {key}=null"
        yield Problem(key, True, "needs to know how many checkpoints there are", "null without a number", fix)


def saved_activations_move_to_another_memory(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Without a GPU the host's copy is the tensor itself, which is then emptied (checkpointing.py)."""
    block = experiment.activation_checkpointing
    if block.enabled and block.cpu_checkpointing and facts.device == "cpu":
        key = "activation_checkpointing.cpu_checkpointing"
        fix = f"activation_checkpointing=deepspeed {key}=null"
        yield Problem(key, True, "needs a CUDA GPU: on a CPU DeepSpeed loses the activations", "null", fix)


def liger_and_compile_do_not_mix(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Seen on an H200: an illegal memory access under transformers' Trainer."""
    if experiment.train.use_liger_kernel and experiment.train.is_compiled:
        yield Problem(
            "train.torch_compile",
            True,
            "together with train.use_liger_kernel it ended in an illegal memory access on an H200",
            "one of the two",
            "train.torch_compile=false train.torch_compile_backend=null train.torch_compile_mode=null, "
            "or train.use_liger_kernel=false",
        )


def profilers_are_on(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Settings of a profiler that does not run."""
    profiler = experiment.profiler
    for name, block in (("flops_profiler", profiler.flops_profiler), ("comms_logger", profiler.comms_logger)):
        yield from settings_of_what_is_off(f"profiler.{name}", block)


def settings_of_what_is_off(prefix: str, block: Group) -> Iterator[Problem]:
    values = block.model_dump(exclude_none=True)
    if values.pop("enabled", None):
        return
    for name, value in values.items():
        key = f"{prefix}.{name}"
        yield Problem(
            key,
            value,
            f"acts with {prefix}.enabled=true only",
            "null",
            f"{prefix}.enabled=true, or {key}=null",
        )


def profiled_step_is_reached(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """A report that never comes."""
    block, steps = experiment.profiler.flops_profiler, facts.total_steps
    if block.enabled and block.profile_step and steps is not None and block.profile_step > steps:
        key = "profiler.flops_profiler.profile_step"
        reason = f"the training has {steps} steps"
        yield Problem(key, block.profile_step, reason, f"1 to {steps}", f"{key}={max(1, steps // 2)}")


def listed_operations_are_logged(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """prof_all is DeepSpeed's default, and prof_ops is read without it only."""
    block = experiment.profiler.comms_logger
    if block.enabled and block.prof_ops and block.prof_all is not False:
        key = "profiler.comms_logger.prof_ops"
        reason = "all operations are logged unless profiler.comms_logger.prof_all is false"
        yield Problem(
            key, block.prof_ops, reason, "null", f"profiler.comms_logger.prof_all=false, or {key}=null"
        )


def warn_of_synchronising_timers(experiment: Experiment, facts: Facts) -> Iterator[Notice]:
    """They wait for the device after each part of a step."""
    profiler = experiment.profiler
    for key, on in (
        ("profiler.wall_clock_breakdown", profiler.wall_clock_breakdown),
        ("profiler.flops_profiler.enabled", profiler.flops_profiler.enabled),
    ):
        if on:
            yield Notice(
                level="advice", key=key, text="it synchronises the device: throughput is lower than without"
            )


ERRORS = (
    one_activation_checkpointing,
    checkpointing_keys_act,
    contiguous_checkpoints_are_counted,
    saved_activations_move_to_another_memory,
    liger_and_compile_do_not_mix,
    profilers_are_on,
    profiled_step_is_reached,
    listed_operations_are_logged,
)
NOTICES = (warn_of_synchronising_timers,)
