"""Writes events to MLflow. Every operation can be repeated: the same events twice give the same store."""

import json
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from zpipe.plans.plan import Plan, without_secrets
from zpipe.record import facts
from zpipe.record.artifacts import log_redacted, require_stored
from zpipe.record.evaluations import log_evaluation, models_to_update
from zpipe.record.limits import (
    METRIC_NAMES,
    PARAM_LENGTH,
    TAG_LENGTH,
    WHOLE_VALUES,
    batches_of,
    param_value,
    safe_name,
    tag_value,
    too_long,
)
from zpipe.record.metrics import (
    PRECISION_COLUMNS,
    PRECISION_TABLE,
    metrics_of,
    milliseconds,
    precision_rows,
    renamed_metrics,
)
from zpipe.record.models import NO_MODELS, has_models, mark_removed, record_model
from zpipe.record.runs import tagged_run
from zpipe.record.state import StateFile, Status
from zpipe.redact import redact
from zpipe.runfolder.events import AttemptBegan, CheckpointSaved, Difference, Event, Failed, ModelSaved
from zpipe.runfolder.folder import CONFIG_NAME, DS_CONFIG_NAME, PLAN_NAME, attempt_name, attempt_number
from zpipe.runfolder.foreign_files import is_regular
from zpipe.runfolder.json_lines import with_named_numbers
from zpipe.runfolder.plan_file import folder_of
from zpipe.runfolder.progress import RunProgress
from zpipe.runfolder.run_events import Position
from zpipe.yaml_text import yaml_text

if TYPE_CHECKING:
    from mlflow import MlflowClient

ERROR_TAG = "zpipe.error"
ENDING_TAGS = ("zpipe.ending", "zpipe.exit_code", "zpipe.reason", "zpipe.failed_rank", ERROR_TAG)


class Recorder:
    """Writes one run to one store. Methods raise MLflow's exceptions; calling them again is safe."""

    def __init__(
        self,
        plan: Plan,
        client: "MlflowClient",
        experiment_id: str,
        state: StateFile,
        parent_run_id: str | None,
    ) -> None:
        self._plan = plan
        self._folder = folder_of(plan)
        self._client = client
        self._experiment_id = experiment_id
        self._state = state
        self._parent_run_id = parent_run_id
        self._opened = False
        self._notes: list[str] = []

    @property
    def run_id(self) -> str | None:
        return self._state.now.run_id

    @property
    def note(self) -> str | None:
        """What the store cannot hold, and which run it holds anew, for people."""
        return "\n".join(self._notes) or None

    @cached_property
    def _has_models(self) -> bool:
        """Asked once, when there is a model to record."""
        known = has_models(self._client, self._experiment_id)
        if not known:
            self._notes.append(NO_MODELS)
        return known

    def record(self, progress: RunProgress, events: list[Event], position: Position) -> None:
        """Records the events that end at this position, then stores it.

        `progress` holds all events of the run up to there.
        """
        is_first = not self._opened
        run_id = self._open(progress, events)
        self._send(run_id, events, progress)
        self._state.update_position(position)
        if is_first:
            # `close` tries again and raises: a store without artifacts must not keep the metrics back.
            with suppress(Exception):
                self._describe(run_id)

    def close(
        self,
        progress: RunProgress,
        events: list[Event],
        position: Position,
        status: Status,
        end_time: int,
        files: Iterable[Path] = (),
        tags: Mapping[str, str] | None = None,
    ) -> str:
        """Records the remaining events and ends the run at `end_time` (milliseconds); returns the run's id.

        `progress` holds all events of the run. `files` are further artifacts; missing ones are skipped.
        `tags` are set on the run.
        """
        run_id = self._open(progress, events)
        self._send(run_id, events, progress)
        self._tag(run_id, tags or {})
        # Artifacts come last: where they cannot be stored, the run has its metrics and its ending.
        self._client.set_terminated(run_id, status, end_time=end_time)
        self._state.update_position(position, status=status)
        self._describe(run_id)
        self._log_precision_table(run_id, progress)
        self._log_names(run_id, progress)
        self._log_files(run_id, [*(attempt.events for attempt in self._folder.attempts), *files])
        if progress.checkpoints and self._has_models:
            mark_removed(self._client, self._experiment_id, run_id)
        self._state.update(closed=True)
        return run_id

    def _open(self, progress: RunProgress, events: list[Event]) -> str:
        """The id of the run, created and described on the first call."""
        if self._opened and self.run_id is not None:
            return self.run_id
        known = self.run_id or self._find_unstored(progress)
        if known is not None:
            self._client.update_run(known, status="RUNNING")
        run_id = known or self._create(events)
        now = self._state.now
        if known is None and now.replaces is not None:
            whole = f"MLflow run {run_id} in {now.uri} is new and has everything since the first step"
            self._notes.append(f"{whole}: it replaces {now.replaces}")
        self._state.update(
            run_id=run_id,
            experiment_id=self._experiment_id,
            opening=False,
            closed=False,
            replaces=None,
        )
        self._opened = True
        return run_id

    def _find_unstored(self, progress: RunProgress) -> str | None:
        """A run whose id was not stored; one that is older than the first event is of another folder."""
        if not self._state.now.opening:
            return None
        since = None if progress.first_time is None else milliseconds(progress.first_time)
        return tagged_run(self._client, self._experiment_id, facts.RUN_DIR_TAG, self._plan.run_dir, since)

    def _create(self, events: list[Event]) -> str:
        self._state.update(opening=True)
        start = milliseconds(events[0].time) if events else int(time.time() * 1000)
        given = facts.tags(self._plan, self._parent_run_id)
        tags = {safe_name(key): tag_value(value) for key, value in given.items()}
        name = facts.run_name(self._plan)
        run = self._client.create_run(self._experiment_id, start_time=start, tags=tags, run_name=name)
        return str(run.info.run_id)

    def _describe(self, run_id: str) -> None:
        """Parameters and configuration, once."""
        if self._state.now.described:
            return
        from mlflow.entities import Param

        whole = facts.params(self._plan)
        known = self._client.get_run(run_id).data.params  # MLflow refuses other values for them
        params = [Param(key, param_value(value)) for key, value in whole.items() if key not in known]
        self._client.log_batch(run_id, params=params, synchronous=True)
        plan = without_secrets(self._plan)
        experiment = plan.experiment.model_dump(mode="json")
        texts = {
            DS_CONFIG_NAME: json.dumps(plan.ds_config, indent=2),
            PLAN_NAME: json.dumps(plan.model_dump(mode="json"), indent=2, ensure_ascii=False),
            CONFIG_NAME: yaml_text(experiment),
        }
        tags = facts.tags(self._plan, self._parent_run_id)
        cut = {**too_long(whole, PARAM_LENGTH), **too_long(tags, TAG_LENGTH)}
        if cut:
            texts[WHOLE_VALUES] = json.dumps(cut, indent=2, ensure_ascii=False)
        for name, text in texts.items():
            self._client.log_text(run_id, redact(text, self._plan.experiment.tracking.uri), name)
        require_stored(self._client, run_id, texts)
        self._state.update(described=True)

    def _send(self, run_id: str, events: list[Event], progress: RunProgress) -> None:
        for batch in batches_of(metrics_of(events)):
            # Only a synchronous call confirms that they arrived.
            self._client.log_batch(run_id, metrics=batch, synchronous=True)
        for event in events:
            match event:
                case CheckpointSaved() | ModelSaved() if self._has_models:
                    self._record_model(run_id, event)
                case AttemptBegan():
                    self._forget_ending(run_id)
                    self._tag(run_id, {facts.ATTEMPTS_TAG: str(event.number)})
                case Difference():
                    text = f"planned {event.planned}, runs {event.real}"
                    self._tag(run_id, {f"zpipe.differs.{event.key}": text})
                case Failed():
                    self._tag(run_id, {ERROR_TAG: f"{event.type}: {event.message}"})
                case _:
                    pass

        for model in models_to_update(events, progress):
            if self._has_models:
                model_id = self._record_model(run_id, model)
                log_evaluation(self._client, run_id, model_id, progress.evaluations[model.step])

    def _record_model(self, run_id: str, event: CheckpointSaved | ModelSaved) -> str:
        return record_model(self._client, self._experiment_id, run_id, self._folder.path, event)

    def _forget_ending(self, run_id: str) -> None:
        """Removes the tags that an earlier attempt ended with."""
        tags = self._client.get_run(run_id).data.tags
        for name in ENDING_TAGS:
            if name in tags:
                self._client.delete_tag(run_id, name)

    def _log_files(self, run_id: str, files: Iterable[Path]) -> None:
        """Those that exist."""
        there = [file for file in files if is_regular(file)]
        for file in there:
            log_redacted(self._client, run_id, file, _artifact_folder(file))
        names = [f"{_artifact_folder(file)}/{file.name}".removeprefix("/") for file in there]
        require_stored(self._client, run_id, names)

    def _log_names(self, run_id: str, progress: RunProgress) -> None:
        names = renamed_metrics(progress)
        if names:
            self._client.log_text(run_id, json.dumps(names, indent=2, ensure_ascii=False), METRIC_NAMES)

    def _tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        for name, value in tags.items():
            text = tag_value(redact(value, self._plan.experiment.tracking.uri))
            self._client.set_tag(run_id, safe_name(name), text, synchronous=True)

    def _log_precision_table(self, run_id: str, progress: RunProgress) -> None:
        """Writes the events that were not finite in the format of mlflow.log_table, tag included."""
        rows = with_named_numbers(precision_rows(progress.precision_events))
        if rows:
            table = json.dumps({"columns": list(PRECISION_COLUMNS), "data": rows})
            self._client.log_text(run_id, table, PRECISION_TABLE)
            tables = [{"path": PRECISION_TABLE, "type": "table"}]
            self._client.set_tag(run_id, "mlflow.loggedArtifacts", json.dumps(tables), synchronous=True)


def _artifact_folder(file: Path) -> str:
    """The files of the first attempt have no folder among the artifacts: most runs have no other."""
    number = attempt_number(file.parent)
    return attempt_name(number) if number is not None and number > 1 else ""
