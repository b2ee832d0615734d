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


def load_universal_needs_a_resumed_run(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """load_universal is read when a checkpoint is loaded, which a new run does not do."""
    value = experiment.checkpoint.load_universal
    if value is not None:
        key = "checkpoint.load_universal"
        yield Problem(
            key,
            value,
            "only used when a run is resumed, which zpipe cannot do yet",
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
    load_universal_needs_a_resumed_run,
    parallel_write_needs_a_pipeline,
)
