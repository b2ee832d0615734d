"""The MLflow run that a sweep's runs belong under."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from zpipe.record.client import open_client
from zpipe.record.store import ensure_experiment, prepare_store
from zpipe.redact import redact


def open_parent_run(
    uri: str,
    experiment: str,
    name: str,
    tags: Mapping[str, str],
    artifacts: Iterable[Path] = (),
    base: Path | None = None,
) -> str:
    """Creates the parent run and returns its id, which its runs are given as parent_run_id.

    `base` is the folder that the user works in, by default the current one. Raises Refusal if the store
    cannot be used.
    """
    prepare_store(uri)
    client = open_client(uri)
    experiment_id = ensure_experiment(client, uri, experiment, base or Path.cwd())
    clean = {key: redact(value, uri) for key, value in tags.items()}
    run_id = str(client.create_run(experiment_id, tags=clean, run_name=name).info.run_id)
    for path in artifacts:
        client.log_artifact(run_id, str(path))
    return run_id


def close_run(uri: str, run_id: str, status: str, artifacts: Iterable[Path] = ()) -> None:
    """Ends a run as FINISHED, FAILED or KILLED, with its last artifacts."""
    client = open_client(uri)
    for path in artifacts:
        client.log_artifact(run_id, str(path))
    client.set_terminated(run_id, status)
