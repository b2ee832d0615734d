"""DeepSpeed's checkpoint block."""

from collections.abc import Iterator

from zpipe.facts.facts import Facts
from zpipe.problems import Problem
from zpipe.schema.experiment import Experiment


def writers_stay_out(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Seen with torch 2.6 and later: the writer cannot save ZeRO's states."""
    for name, value in experiment.checkpoint.writer.model_dump(exclude_none=True).items():
        key = f"checkpoint.writer.{name}"
        reason = "DeepSpeed's checkpoint writer fails on ZeRO's states with torch 2.6 and later"
        yield Problem(key, value, reason, "null", f"{key}=null")


def universal_checkpoints_are_loaded_on_resume(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """load_universal is read when a checkpoint is loaded, which a fresh run does not."""
    value = experiment.checkpoint.load_universal
    if value is not None:
        key = "checkpoint.load_universal"
        yield Problem(
            key, value, "acts when a run is resumed, which is not offered yet", "null", f"{key}=null"
        )


def stages_write_side_by_side_in_pipelines(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """parallel_write acts on a PipelineModule."""
    value = experiment.checkpoint.parallel_write.pipeline_stage
    if value is not None:
        key = "checkpoint.parallel_write.pipeline_stage"
        yield Problem(key, value, "acts on a PipelineModule, which this model is not", "null", f"{key}=null")


ERRORS = (
    writers_stay_out,
    universal_checkpoints_are_loaded_on_resume,
    stages_write_side_by_side_in_pipelines,
)
