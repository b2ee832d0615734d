"""What is too long for MLflow is shortened, said so and kept whole; nothing is dropped in silence."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.events import EventWriter
from tests.support.plans import make_plan
from tests.support.store import put_store
from zpipe.record.client import open_client
from zpipe.record.limits import METRIC_NAMES, WHOLE_VALUES, batches_of, safe_name
from zpipe.record.record_run import record_run
from zpipe.record.store import default_uri
from zpipe.redact import HIDDEN


@pytest.mark.parametrize(
    "name", ["loss", "memory/peak_reserved_gib", "eval: a-b.c d", "Verlust_für_größe", "損失/訓練"]
)
def test_names_that_mlflow_takes_stay(name: str) -> None:
    assert safe_name(name) == name


@settings(deadline=None)  # importing MLflow takes seconds
@given(st.lists(st.text(min_size=1, max_size=300), min_size=2, max_size=2, unique=True))
def test_any_name_becomes_one_that_mlflow_takes_and_two_stay_two(names: list[str]) -> None:
    from mlflow.utils.validation import _validate_metric, _validate_tag

    made = [safe_name(name) for name in names]
    assert made[0] != made[1]
    for name in made:
        _validate_metric(name, 1.0, 1, 0)  # type: ignore[no-untyped-call]
        _validate_tag(name, "x")  # type: ignore[no-untyped-call]


def test_requests_stay_below_mlflows_limits() -> None:
    from mlflow.entities import Metric

    metrics = [Metric(f"{'損' * 240}{index}", 1.0, 1_700_000_000_000, index) for index in range(2500)]
    batches = list(batches_of(metrics))
    assert [metric for batch in batches for metric in batch] == metrics
    for batch in batches:
        body = [
            {"key": metric.key, "value": metric.value, "timestamp": metric.timestamp, "step": metric.step}
            for metric in batch
        ]
        assert len(batch) <= 1000
        assert len(json.dumps({"run_id": "0" * 32, "metrics": body})) < 1_000_000


@pytest.fixture(scope="module")
def recorded(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """Client and run of a plan whose names and values are as awkward as can be."""
    base = put_store(empty_store, tmp_path_factory.mktemp("limits"))
    plan = make_plan(
        base / "run",
        experiment={
            "data.path": "/data/" + "long" * 2000,
            "tracking.tags": {"équipe": "bleue", "a(b)": "c", "novel": "x" * 9000, "api_token": "abcdefgh"},
            "tracking.experiment": "Größe 損失",
            "tracking.run_name": "läuft 🚂",
        },
    )
    writer = EventWriter(Path(plan.run_dir))
    writer.write("phase", name="model", detail="")
    values = {"a(b)": 1.0, "a[b]": 2.0, "損失": 3.0, "m" * 300: 4.0, "m" * 301: 5.0}
    writer.write("metrics", step=1, values=values)
    writer.close()
    result = record_run(Path(plan.run_dir), base)
    assert result.ok, result.error
    assert result.run_id is not None
    client = open_client(default_uri(base))
    return client, client.get_run(result.run_id)


def artifact(recorded: tuple[Any, Any], name: str) -> Any:
    client, run = recorded
    return json.loads(Path(client.download_artifacts(run.info.run_id, name)).read_text())


def test_a_long_parameter_is_shortened_and_whole_beside_it(recorded: tuple[Any, Any]) -> None:
    _, run = recorded
    assert len(run.data.params["data"]) == 6000
    assert WHOLE_VALUES in run.data.params["data"]
    assert artifact(recorded, WHOLE_VALUES)["data"] == "/data/" + "long" * 2000


def test_tags_keep_their_names_and_values_as_far_as_mlflow_can(recorded: tuple[Any, Any]) -> None:
    _, run = recorded
    tags = run.data.tags
    assert tags["équipe"] == "bleue"
    assert tags[safe_name("a(b)")] == "c"
    assert len(tags["novel"]) == 8000
    assert artifact(recorded, WHOLE_VALUES)["novel"] == "x" * 9000
    assert tags["api_token"] == HIDDEN
    assert run.info.run_name == "läuft 🚂"


def test_every_metric_is_there_and_its_own_name_can_be_looked_up(recorded: tuple[Any, Any]) -> None:
    _, run = recorded
    names = artifact(recorded, METRIC_NAMES)
    assert run.data.metrics["損失"] == 3.0
    values = {name: run.data.metrics[names[name]] for name in ("a(b)", "a[b]", "m" * 300, "m" * 301)}
    assert values == {"a(b)": 1.0, "a[b]": 2.0, "m" * 300: 4.0, "m" * 301: 5.0}
