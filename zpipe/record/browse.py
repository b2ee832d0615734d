"""Looks into a store: its runs as plain values, newest first."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zpipe.problems import Problem, Refusal, nearest
from zpipe.record.client import open_client
from zpipe.record.facts import RUN_DIR_TAG
from zpipe.record.store import check_store, sqlite_file
from zpipe.record.sweeps import PARENT_TAG, SWEEP_TAG
from zpipe.redact import redact_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient

_HEX = frozenset("0123456789abcdef")
_MOST_MATCHES = 5


@dataclass(frozen=True)
class Recorded:
    """One run as MLflow has it."""

    run_id: str
    name: str
    status: str
    """FINISHED, FAILED, KILLED or RUNNING."""
    began: float
    """Seconds since the epoch."""
    seconds: float | None
    """How long it took; None while it goes on."""
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]

    @property
    def parent(self) -> str | None:
        return self.tags.get(PARENT_TAG)

    @property
    def folder(self) -> Path | None:
        """Run folder, or that of a sweep, which may be on another machine."""
        given = self.tags.get(RUN_DIR_TAG) or self.tags.get(SWEEP_TAG)
        return Path(given) if given else None

    @property
    def ending(self) -> str:
        """zpipe's word for the end where there is one."""
        return self.tags.get("zpipe.ending", "")

    @property
    def error(self) -> str:
        return self.tags.get("zpipe.error", "")

    def figure(self, *names: str) -> float | None:
        """The first of these metrics that the run has, last figures before curves."""
        candidates = [self.metrics.get(f"summary/{name}", self.metrics.get(name)) for name in names]
        return next((value for value in candidates if value is not None and not math.isnan(value)), None)


def recent(uri: str, experiment: str | None, limit: int) -> list[Recorded]:
    """The newest runs of the store, or of one experiment. Raises Refusal if there is no such store."""
    client = _open(uri)
    found = client.search_runs(
        _experiments(client, experiment), max_results=limit, order_by=["attributes.start_time DESC"]
    )
    return [_recorded(run) for run in found]


def find(uri: str, prefix: str) -> Recorded:
    """The only run whose id begins like this. Raises Refusal if there is none, or more than one."""
    if not prefix or not set(prefix.lower()) <= _HEX:
        raise Refusal([Problem("RUN", prefix, "neither a run folder nor the id of a run in MLflow")])
    client = _open(uri)
    condition = f"attributes.run_id LIKE '{prefix.lower()}%'"
    found = client.search_runs(_experiments(client, None), condition, max_results=_MOST_MATCHES)
    if len(found) == 1:
        return _recorded(found[0])
    matches = ", ".join(run.info.run_id for run in found)
    reason = "several runs begin like this" if found else f"no run of {redact_uri(uri)} begins like this"
    raise Refusal([Problem("RUN", prefix, reason, matches, "zpipe runs lists them")])


def _open(uri: str) -> "MlflowClient":
    """The client of a store that exists: looking makes none."""
    problems = check_store(uri)
    file = sqlite_file(uri)
    if file is not None and not file.exists():
        fix = "a run makes it, or --uri names another"
        problems.append(Problem("--uri", redact_uri(uri), "there is no such store", fix=fix))
    if problems:
        raise Refusal(problems)
    return open_client(uri)


def _experiments(client: "MlflowClient", name: str | None) -> list[str]:
    found = client.search_experiments()
    chosen = [each.experiment_id for each in found if name in (None, each.name)]
    if name is not None and not chosen:
        names = [each.name for each in found]
        fix = " or ".join(f"--experiment {near}" for near in nearest(name, names))
        raise Refusal([Problem("--experiment", name, "no such experiment", ", ".join(names), fix)])
    return chosen


def _recorded(run: Any) -> Recorded:
    began, ended = run.info.start_time / 1000, run.info.end_time
    return Recorded(
        run_id=run.info.run_id,
        name=run.info.run_name or "",
        status=run.info.status,
        began=began,
        seconds=None if ended is None else ended / 1000 - began,
        params=dict(run.data.params),
        metrics=dict(run.data.metrics),
        tags=dict(run.data.tags),
    )
