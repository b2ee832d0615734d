"""Reads the runs of a store as plain values, newest first."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zpipe.problems import Problem, Refusal, nearest, refuse_if_any
from zpipe.record.client import open_client, reporting_failures
from zpipe.record.database import require_answer
from zpipe.record.facts import ATTEMPTS_TAG, RUN_DIR_TAG
from zpipe.record.store import check_store, sqlite_file
from zpipe.record.sweeps import PARENT_TAG, SWEEP_TAG
from zpipe.redact import redact_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient

_HEX = frozenset("0123456789abcdef")
_MAX_MATCHES = 5


@dataclass(frozen=True)
class RecordedRun:
    """One run as recorded in MLflow."""

    run_id: str
    name: str
    status: str
    """FINISHED, FAILED, KILLED or RUNNING."""
    began: float
    """Seconds since the epoch."""
    seconds: float | None
    """Duration; None while the run is in progress."""
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]

    @property
    def parent(self) -> str | None:
        return self.tags.get(PARENT_TAG)

    @property
    def folder(self) -> Path | None:
        """The folder of the run or sweep, which may be on another machine."""
        given = self.tags.get(RUN_DIR_TAG) or self.tags.get(SWEEP_TAG)
        return Path(given) if given else None

    @property
    def ending(self) -> str:
        """zpipe's ending, or "" if zpipe did not record one."""
        return self.tags.get("zpipe.ending", "")

    @property
    def attempts(self) -> int:
        """How often the run was started."""
        given = self.tags.get(ATTEMPTS_TAG, "")
        return int(given) if given.isdecimal() and len(given) < 7 else 1

    @property
    def error(self) -> str:
        return self.tags.get("zpipe.error", "")

    def metric(self, *names: str) -> float | None:
        """The first of these metrics that the run has; a summary value precedes the curve's last value."""
        candidates = [self.metrics.get(f"summary/{name}", self.metrics.get(name)) for name in names]
        return next((value for value in candidates if value is not None and not math.isnan(value)), None)


def recent(uri: str, experiment: str | None, limit: int) -> list[RecordedRun]:
    """The newest runs of the store, or of one experiment.

    Raises Refusal if the store or the experiment does not exist, StoreUnreachable if the store fails.
    """
    _check(uri)
    with reporting_failures(uri):
        require_answer(uri)
        client = open_client(uri)
        found = client.search_runs(
            _experiments(client, experiment), max_results=limit, order_by=["attributes.start_time DESC"]
        )
    return [_recorded(run) for run in found]


def find(uri: str, prefix: str) -> RecordedRun:
    """The run whose id starts with this prefix.

    Raises Refusal if there is none or more than one, StoreUnreachable if the store fails.
    """
    if not prefix or not set(prefix.lower()) <= _HEX:
        raise Refusal([Problem("RUN", prefix, "neither a run folder nor the id of an MLflow run")])
    _check(uri)
    condition = f"attributes.run_id LIKE '{prefix.lower()}%'"
    with reporting_failures(uri):
        require_answer(uri)
        client = open_client(uri)
        found = client.search_runs(_experiments(client, None), condition, max_results=_MAX_MATCHES)
    if len(found) == 1:
        return _recorded(found[0])
    matches = ", ".join(run.info.run_id for run in found)
    store = redact_uri(uri)
    reason = (
        f"several run ids in {store} start with this" if found else f"no run id in {store} starts with this"
    )
    raise Refusal([Problem("RUN", prefix, reason, matches, "list the runs: zpipe runs")])


def _check(uri: str) -> None:
    """Raises Refusal if the store does not exist: opening it would create it."""
    problems = check_store(uri)
    file = sqlite_file(uri)
    if file is not None and not file.exists():
        fix = "start a run, which creates it, or choose another store with --uri"
        problems.append(Problem("--uri", redact_uri(uri), "this store does not exist", fix=fix))
    refuse_if_any(problems)


def _experiments(client: "MlflowClient", name: str | None) -> list[str]:
    found = client.search_experiments()
    chosen = [each.experiment_id for each in found if name in (None, each.name)]
    if name is not None and not chosen:
        names = [each.name for each in found]
        fix = " or ".join(f"--experiment {near}" for near in nearest(name, names))
        reason = "this experiment does not exist"
        raise Refusal([Problem("--experiment", name, reason, ", ".join(names), fix)])
    return chosen


def _recorded(run: Any) -> RecordedRun:
    began, ended = run.info.start_time / 1000, run.info.end_time
    return RecordedRun(
        run_id=run.info.run_id,
        name=run.info.run_name or "",
        status=run.info.status,
        began=began,
        seconds=None if ended is None else ended / 1000 - began,
        params=dict(run.data.params),
        metrics=dict(run.data.metrics),
        tags=dict(run.data.tags),
    )
