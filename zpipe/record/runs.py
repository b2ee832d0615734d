"""Which run of a store is that of a folder: the one that is known, or one that is found by its tag."""

from typing import TYPE_CHECKING

from zpipe.problems import Problem, Refusal

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


def existing_run(client: "MlflowClient", run_id: str) -> "Run | None":
    """None if the store answers that it has no such run. Raises Refusal if the user has deleted it."""
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
    if run.info.lifecycle_stage == "deleted":
        raise Refusal([_deleted(client, run)])
    return run


def tagged_run(
    client: "MlflowClient", experiment_id: str, tag: str, value: str, since: int | None = None
) -> str | None:
    """The id of the newest run with this tag that began at this time (milliseconds) or later."""
    if '"' in value:
        return None
    condition = f'tags.`{tag}` = "{value}"'
    if since is not None:
        condition += f" AND attributes.start_time >= {since}"
    found = client.search_runs([experiment_id], condition, max_results=1)
    return str(found[0].info.run_id) if found else None


def _deleted(client: "MlflowClient", run: "Run") -> Problem:
    """What the user has deleted is not created again behind his back."""
    experiment_id = run.info.experiment_id
    is_whole = client.get_experiment(experiment_id).lifecycle_stage == "deleted"
    restored = (
        f"experiments restore -x {experiment_id}" if is_whole else f"runs restore --run-id {run.info.run_id}"
    )
    fix = f"mlflow {restored}, with MLFLOW_TRACKING_URI set to the store, or another store: tracking.uri"
    deleted = "its experiment was" if is_whole else "it was"
    return Problem("MLflow run", run.info.run_id, f"{deleted} deleted in MLflow", "a run that exists", fix)
