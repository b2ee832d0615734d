"""Activation checkpointing and profilers."""

from collections.abc import Iterator

from zpipe.facts.facts import Facts
from zpipe.plans.plan import Notice
from zpipe.problems import Problem, either
from zpipe.schema.base import Group
from zpipe.schema.engine import ThroughputTimer
from zpipe.schema.experiment import Experiment


def one_kind_of_activation_checkpointing(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Two kinds would recompute each layer twice."""
    if experiment.activation_checkpointing.enabled and experiment.train.gradient_checkpointing:
        yield Problem(
            "train.gradient_checkpointing",
            True,
            "DeepSpeed's activation checkpointing is already on",
            "one of the two",
            either("train.gradient_checkpointing=false", "activation_checkpointing=transformers"),
        )


def activation_checkpointing_keys_need_the_switch(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """The block configures deepspeed.checkpointing, which transformers' checkpointing never calls."""
    block = experiment.activation_checkpointing
    if block.enabled:
        return
    for name, value in block.given(without={"enabled"}).items():
        key = f"activation_checkpointing.{name}"
        reason = "only used by DeepSpeed's activation checkpointing, which is off"
        needs_gpu = name == "cpu_checkpointing" and facts.device == "cpu"
        turn_on = [] if needs_gpu else ["activation_checkpointing.enabled=true"]
        yield Problem(key, value, reason, "null", either(*turn_on, f"{key}=null"), ignored=True)


def contiguous_checkpoints_need_partitions_and_a_count(
    experiment: Experiment, facts: Facts
) -> Iterator[Problem]:
    """checkpointing.py requires partitioned activations and the number of checkpoints."""
    block = experiment.activation_checkpointing
    if not (block.enabled and block.contiguous_memory_optimization):
        return
    layers = facts.model.config.get("num_hidden_layers", 1)
    key = "activation_checkpointing.contiguous_memory_optimization"
    if not block.partition_activations:
        reason = "needs partitioned activations"
        fix = either("activation_checkpointing.partition_activations=true", f"{key}=null")
        yield Problem(key, True, reason, "null without partition_activations", fix)
    if block.number_checkpoints is None:
        fix = either(f"activation_checkpointing.number_checkpoints={layers}", f"{key}=null")
        yield Problem(
            key, True, "needs the number of activation checkpoints", "null without number_checkpoints", fix
        )


def cpu_checkpointing_needs_a_gpu(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Without a GPU the copy in host memory is the tensor itself, which is then freed (checkpointing.py)."""
    block = experiment.activation_checkpointing
    if block.enabled and block.cpu_checkpointing and facts.device == "cpu":
        key = "activation_checkpointing.cpu_checkpointing"
        fix = either(f"activation_checkpointing=deepspeed {key}=null")
        yield Problem(key, True, "needs a CUDA GPU: on a CPU DeepSpeed loses the activations", "null", fix)


def profiler_settings_need_the_profiler(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Settings of a profiler that is turned off are ignored."""
    profiler = experiment.profiler
    blocks = {
        "flops_profiler": profiler.flops_profiler,
        "comms_logger": profiler.comms_logger,
        "timers.throughput": profiler.timers.throughput,
    }
    for name, block in blocks.items():
        yield from settings_of_a_disabled_block(f"profiler.{name}", block)


def settings_of_a_disabled_block(prefix: str, block: Group) -> Iterator[Problem]:
    """One problem for each key of a block whose `enabled` is not true."""
    values = block.given()
    if values.pop("enabled", None):
        return
    for name, value in values.items():
        key = f"{prefix}.{name}"
        yield Problem(
            key,
            value,
            f"only used with {prefix}.enabled=true",
            "null",
            either(f"{prefix}.enabled=true", f"{key}=null"),
            ignored=True,
        )


def profiled_step_is_reached(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """The profiler never reports if training ends before its step."""
    block, steps = experiment.profiler.flops_profiler, facts.total_steps
    if block.enabled and block.profile_step and steps is not None and block.profile_step > steps:
        key = "profiler.flops_profiler.profile_step"
        reason = f"training has only {steps} steps"
        yield Problem(key, block.profile_step, reason, f"1 to {steps}", either(f"{key}={max(1, steps // 2)}"))


def prof_ops_needs_prof_all_off(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """prof_all is DeepSpeed's default, and prof_ops is only read without it."""
    block = experiment.profiler.comms_logger
    if block.enabled and block.prof_ops and block.prof_all is not False:
        key = "profiler.comms_logger.prof_ops"
        reason = "ignored unless profiler.comms_logger.prof_all is false"
        yield Problem(
            key,
            block.prof_ops,
            reason,
            "null",
            either("profiler.comms_logger.prof_all=false", f"{key}=null"),
            ignored=True,
        )


def warn_about_synchronizing_timers(experiment: Experiment, facts: Facts) -> Iterator[Notice]:
    """These timers wait for the device after each part of a step."""
    profiler = experiment.profiler
    for key, on in (
        ("profiler.wall_clock_breakdown", profiler.wall_clock_breakdown),
        ("profiler.flops_profiler.enabled", profiler.flops_profiler.enabled),
        ("profiler.timers.throughput.enabled", _waits(profiler.timers.throughput)),
    ):
        if on:
            yield Notice(level="advice", key=key, text="synchronizes the device, which lowers throughput")


def _waits(timer: ThroughputTimer) -> bool:
    return timer.enabled and timer.synchronized is not False


ERRORS = (
    one_kind_of_activation_checkpointing,
    activation_checkpointing_keys_need_the_switch,
    contiguous_checkpoints_need_partitions_and_a_count,
    cpu_checkpointing_needs_a_gpu,
    profiler_settings_need_the_profiler,
    profiled_step_is_reached,
    prof_ops_needs_prof_all_off,
)
NOTICES = (warn_about_synchronizing_timers,)
