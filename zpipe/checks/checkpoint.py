"""DeepSpeed's checkpoint block."""

from collections.abc import Iterator

from zpipe.facts.facts import Facts
from zpipe.problems import Problem, either
from zpipe.schema.experiment import Experiment


def checkpoint_writer_is_unusable(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """With torch 2.6 and later the writer failed to save ZeRO's states."""
    for name, value in experiment.checkpoint.writer.model_dump(exclude_none=True).items():
        key = f"checkpoint.writer.{name}"
        reason = "DeepSpeed's checkpoint writer cannot save ZeRO's states with torch 2.6 and later"
        yield Problem(key, value, reason, "null", either(f"{key}=null"))


def universal_checkpoints_are_not_written(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """load_universal loads a converted checkpoint, with which the number of processes may change."""
    value = experiment.checkpoint.load_universal
    if value is not None:
        key = "checkpoint.load_universal"
        yield Problem(
            key,
            value,
            "zpipe cannot convert checkpoints to universal ones yet, so there is none to load",
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


ERRORS = (
    checkpoint_writer_is_unusable,
    universal_checkpoints_are_not_written,
    parallel_write_needs_a_pipeline,
)
