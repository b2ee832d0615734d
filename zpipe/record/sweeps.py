"""The MLflow run of a sweep: the parent of the runs of its points."""

import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zpipe.record.client import open_client
from zpipe.record.facts import COMMAND_TAG
from zpipe.record.limits import PARAM_LENGTH, safe_name, tag_value
from zpipe.record.runs import existing_run
from zpipe.record.state import Status
from zpipe.record.store import ensure_experiment, prepare_store
from zpipe.redact import redact

if TYPE_CHECKING:
    from mlflow import MlflowClient

PARENT_TAG = "mlflow.parentRunId"
SWEEP_TAG = "zpipe.sweep_dir"
_SUPERSEDED_TAG = "zpipe.superseded"


@dataclass(frozen=True)
class SweepFigures:
    """What the sweep's run has about its points."""

    metrics: Mapping[str, float]
    params: Mapping[str, str]
    tags: Mapping[str, str]


@dataclass(frozen=True)
class SweepRun:
    """One sweep in one store. Methods raise MLflow's errors, and Refusal if the store cannot be used."""

    uri: str
    experiment: str
    name: str
    folder: Path
    arguments: list[str]
    """The command line, as typed."""
    base: Path
    """The folder in which it was typed."""
    run_id: str | None = None

    def open(self) -> str:
        """Creates the run if this store has none, sets its status to RUNNING and returns its id."""
        client, experiment_id = self._connect()
        run_id = (
            self._known(client) or self._find(client, experiment_id) or self._create(client, experiment_id)
        )
        client.update_run(run_id, status="RUNNING")
        return run_id

    def close(
        self,
        runs: Mapping[str, str | None],
        figures: SweepFigures,
        files: Iterable[Path],
        status: Status,
    ) -> str:
        """Ends the run with its figures and artifacts, sets the parent of each run, and returns its id.

        `runs` maps the id of each run of the sweep to None, or to the id of the run that replaced it after
        the sweep was resumed. A run becomes a child of the sweep, or of its replacement.
        """
        run_id = self.open()
        client, _ = self._connect()
        for child, successor in runs.items():
            _set_parent(client, child, successor or run_id, superseded=successor is not None)
        self._log(client, run_id, figures)
        for path in files:
            client.log_artifact(run_id, str(path))
        client.set_terminated(run_id, status)
        return run_id

    def _log(self, client: "MlflowClient", run_id: str, figures: SweepFigures) -> None:
        for key, value in figures.metrics.items():
            client.log_metric(run_id, key, value, synchronous=True)
        known = client.get_run(run_id).data.params
        for key, text in figures.params.items():
            if safe_name(key) not in known:  # MLflow refuses another value, which a resumed sweep may have.
                shown = redact(text, self.uri)[:PARAM_LENGTH]
                client.log_param(run_id, safe_name(key), shown, synchronous=True)
        for key, text in figures.tags.items():
            client.set_tag(run_id, key, tag_value(redact(text, self.uri)), synchronous=True)

    def _connect(self) -> "tuple[MlflowClient, str]":
        prepare_store(self.uri)
        client = open_client(self.uri)
        return client, ensure_experiment(client, self.uri, self.experiment, self.base)

    def _known(self, client: "MlflowClient") -> str | None:
        """None for the run of another store, or one that is gone."""
        return self.run_id if self.run_id and existing_run(client, self.run_id) else None

    def _create(self, client: "MlflowClient", experiment_id: str) -> str:
        command = redact(shlex.join(["zpipe", *self.arguments]), self.uri)
        tags = {
            SWEEP_TAG: str(self.folder),
            COMMAND_TAG: tag_value(command),
            "mlflow.source.name": "zpipe",
            "mlflow.source.type": "LOCAL",
            "mlflow.note.content": tag_value(f"`{command}`\n\nSweep folder: `{self.folder}`"),
        }
        run = client.create_run(experiment_id, tags=tags, run_name=self.name)
        return str(run.info.run_id)

    def _find(self, client: "MlflowClient", experiment_id: str) -> str | None:
        """The run of an earlier session whose id was not written to sweep.json."""
        condition = f"tags.`{SWEEP_TAG}` = {json.dumps(str(self.folder), ensure_ascii=False)}"
        found = client.search_runs([experiment_id], condition, max_results=1)
        return str(found[0].info.run_id) if found else None


def _set_parent(client: "MlflowClient", child: str, parent: str, superseded: bool) -> None:
    tags = client.get_run(child).data.tags
    if tags.get(PARENT_TAG) != parent:
        client.set_tag(child, PARENT_TAG, parent, synchronous=True)
    if superseded and tags.get(_SUPERSEDED_TAG) != parent:
        client.set_tag(child, _SUPERSEDED_TAG, parent, synchronous=True)
