"""Records checkpoints and the final model as external LoggedModels in MLflow: linked, not uploaded."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from zpipe.runfolder.events import CheckpointSaved, ModelSaved

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel

_EXTERNAL_TAG = "mlflow.model.isExternal"
PATH_TAG = "zpipe.path"
"""Of a model: its folder."""
STEP_TAG = "zpipe.step"
_REMOVED_TAG = "zpipe.removed"
_UNSUPPORTED = ("ENDPOINT_NOT_FOUND", "NOT_IMPLEMENTED")
NO_MODELS = "this MLflow server is older than 3.0: it has no models, so checkpoints are in events.jsonl alone"


def has_models(client: "MlflowClient", experiment_id: str) -> bool:
    """Whether the server knows models. A server of MLflow 2 answers 404."""
    from mlflow.exceptions import MlflowException

    try:
        client.search_logged_models([experiment_id], max_results=1)
    except MlflowException as error:
        if error.error_code not in _UNSUPPORTED:
            raise
        return False
    return True


def record_model(
    client: "MlflowClient",
    experiment_id: str,
    run_id: str,
    run_dir: Path,
    event: CheckpointSaved | ModelSaved,
) -> str:
    """Records a checkpoint or the final model and returns its id; doing it again changes nothing."""
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    name = f"checkpoint-{event.step}" if isinstance(event, CheckpointSaved) else "model"
    model = _find(client, experiment_id, run_id, name)
    if model is None:
        tags = {
            _EXTERNAL_TAG: "true",
            PATH_TAG: str(run_dir / event.path),
            STEP_TAG: str(event.step),
            "zpipe.bytes": str(event.bytes),
        }
        model = client.create_logged_model(
            experiment_id, name=name, source_run_id=run_id, tags=tags, model_type=event.event
        )
    if model.status != LoggedModelStatus.READY:
        _describe(client, model)
        client.finalize_logged_model(model.model_id, "READY")
    if model.model_id not in _outputs(client, run_id):
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, event.step)])
    return str(model.model_id)


def mark_removed(client: "MlflowClient", experiment_id: str, run_id: str) -> None:
    """Tags models whose folder no longer exists: save_total_limit removes old checkpoints during training."""
    for model in _search(client, experiment_id, f"source_run_id = '{run_id}'"):
        path = model.tags.get(PATH_TAG)
        if path and not Path(path).exists() and _REMOVED_TAG not in model.tags:
            client.set_logged_model_tags(model.model_id, {_REMOVED_TAG: "true"})


def _find(client: "MlflowClient", experiment_id: str, run_id: str, name: str) -> "LoggedModel | None":
    found = _search(client, experiment_id, f"source_run_id = '{run_id}' AND name = '{name}'")
    return found[0] if found else None


def _search(client: "MlflowClient", experiment_id: str, condition: str) -> "list[LoggedModel]":
    models: list[LoggedModel] = []
    token: str | None = None
    while True:
        page = client.search_logged_models([experiment_id], filter_string=condition, page_token=token)
        models += page
        token = page.token
        if not token:
            return models


def _outputs(client: "MlflowClient", run_id: str) -> set[str]:
    outputs = client.get_run(run_id).outputs
    return {output.model_id for output in outputs.model_outputs} if outputs else set()


def _describe(client: "MlflowClient", model: "LoggedModel") -> None:
    """Uploads the MLmodel file that the registry needs, as mlflow.create_external_model does."""
    from mlflow.models.utils import get_external_mlflow_model_spec

    with tempfile.TemporaryDirectory() as folder:
        get_external_mlflow_model_spec(model).save(f"{folder}/MLmodel")
        client.log_model_artifacts(model.model_id, folder)
