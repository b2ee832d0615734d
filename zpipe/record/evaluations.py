"""The metrics of an evaluation belong to the model that was evaluated: MLflow ranks models by them.

MLflow's key of such a metric is (model, name, time, step, run). All of them come from events, so doing it
again changes nothing.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from zpipe.record.limits import batches_of, safe_name
from zpipe.record.metrics import milliseconds
from zpipe.runfolder.events import CheckpointSaved, Event, Metrics, ModelSaved
from zpipe.runfolder.progress import EVALUATION_PREFIX, RunProgress

if TYPE_CHECKING:
    from mlflow import MlflowClient


def log_evaluation(client: "MlflowClient", run_id: str, model_id: str, evaluation: Iterable[Metrics]) -> None:
    """Adds the metrics of an evaluation to a model of the run; doing it again changes nothing."""
    from mlflow.entities import Metric

    metrics = (
        Metric(safe_name(name), value, milliseconds(event.time), event.step, model_id=model_id)
        for event in evaluation
        for name, value in event.values.items()
        if name.startswith(EVALUATION_PREFIX)
    )
    for batch in batches_of(metrics):
        client.log_batch(run_id, metrics=batch, synchronous=True)


def models_to_update(events: Iterable[Event], progress: RunProgress) -> list[CheckpointSaved | ModelSaved]:
    """The evaluated models that these events are about.

    A model is saved after its evaluation or before it, so either event may be the later one.
    """
    steps = {
        event.step
        for event in events
        if isinstance(event, CheckpointSaved | ModelSaved | Metrics) and event.step in progress.evaluations
    }
    saved: list[CheckpointSaved | ModelSaved] = [*progress.checkpoints]
    if progress.model is not None:
        saved.append(progress.model)
    return [model for model in saved if model.step in steps]
