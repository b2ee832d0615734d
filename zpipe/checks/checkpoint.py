"""Checkpoints: DeepSpeed's block, and settings that need checkpoints from which a run can go on."""

from collections.abc import Iterator

from zpipe.facts.facts import Facts
from zpipe.plans.plan import Notice
from zpipe.problems import Problem, either
from zpipe.schema.experiment import Experiment


def checkpoint_writer_is_unusable(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Without data_parallel the engine does not start; with it, torch refuses to load what was saved."""
    for name, value in experiment.checkpoint.writer.given().items():
        key = f"checkpoint.writer.{name}"
        reason = "checkpoints of DeepSpeed's writers cannot be loaded again with torch 2.6 and later"
        yield Problem(key, value, reason, "null", either(f"{key}=null"))


def universal_checkpoints_are_not_needed(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """load_universal loads a converted checkpoint; zpipe loads every shape without a conversion."""
    value = experiment.checkpoint.load_universal
    if value is not None:
        key = "checkpoint.load_universal"
        yield Problem(
            key,
            value,
            "not needed: a checkpoint of another number of processes or stage is loaded without a conversion",
            "null",
            either(f"{key}=null"),
            ignored=True,
        )


def parallel_write_needs_a_pipeline(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """parallel_write is only used with a PipelineModule."""
    value = experiment.checkpoint.parallel_write.pipeline_stage
    if value is not None:
        key = "checkpoint.parallel_write.pipeline_stage"
        yield Problem(
            key,
            value,
            "only used with a PipelineModule, which this model is not",
            "null",
            either(f"{key}=null"),
            ignored=True,
        )


def the_clock_saves_only_with_checkpoints(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Without a strategy no checkpoint is saved, whatever the time."""
    checkpoint, key = experiment.checkpoint, "checkpoint.every_minutes"
    if checkpoint.every_minutes is not None and checkpoint.save_strategy == "no":
        reason = "checkpoint.save_strategy=no saves no checkpoints"
        yield Problem(
            key,
            checkpoint.every_minutes,
            reason,
            "null with checkpoint.save_strategy=no",
            either("checkpoint.save_strategy=steps", f"{key}=null"),
        )


def a_stopped_run_can_go_on(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """A run that stops when its time is spent, without a checkpoint to go on from, would lose its work."""
    checkpoint, key = experiment.checkpoint, "checkpoint.stop_after"
    if checkpoint.stop_after is None:
        return
    off = f"{key}=null"
    if checkpoint.save_strategy == "no":
        reason = "the run would stop without a checkpoint, because checkpoint.save_strategy=no"
        fix = either("checkpoint.save_strategy=steps", off)
    elif checkpoint.save_only_model:
        reason = "the run could not go on from a checkpoint with checkpoint.save_only_model=true"
        fix = either("checkpoint.save_only_model=false", off)
    else:
        return
    yield Problem(key, checkpoint.stop_after, reason, "null without complete checkpoints", fix)


ERRORS = (
    the_clock_saves_only_with_checkpoints,
    a_stopped_run_can_go_on,
    checkpoint_writer_is_unusable,
    universal_checkpoints_are_not_needed,
    parallel_write_needs_a_pipeline,
)


def warn_that_no_run_goes_on(experiment: Experiment, facts: Facts) -> Iterator[Notice]:
    checkpoint = experiment.checkpoint
    if checkpoint.save_only_model and checkpoint.save_strategy != "no":
        text = "a run that is stopped or killed cannot go on from a checkpoint with the model alone"
        yield Notice(level="warning", key="checkpoint.save_only_model", text=text)


NOTICES = (warn_that_no_run_goes_on,)
