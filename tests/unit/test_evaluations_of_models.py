"""Each model in MLflow has the metrics of its own evaluation, however the record came about."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.plans import make_plan
from tests.support.recording import metrics, models_of, phase, rewind, run_of, write_events
from zpipe.plans.plan import Plan
from zpipe.record.record_run import record_run

Written = tuple[str, dict[str, Any]]


def saved(step: int) -> Written:
    return "checkpoint", {"step": step, "path": f"checkpoint-{step}", "bytes": 10}


def record(tmp_path: Path, base: Path, *events: Written) -> Plan:
    plan = make_plan(tmp_path / "run")
    write_events(plan, phase("model"), *events)
    assert record_run(Path(plan.run_dir), base).ok
    return plan


def evaluations(client: Any, plan: Plan) -> dict[str, list[tuple[int, str, float]]]:
    models = models_of(client, run_of(client, plan))
    return {
        name: sorted((each.step, each.key, each.value) for each in model.metrics or [])
        for name, model in models.items()
    }


BEFORE = [metrics(2, eval_loss=3.0, eval_runtime=1.0), saved(2)]
AFTER = [saved(2), metrics(2, eval_loss=3.0, eval_runtime=1.0)]


@pytest.mark.parametrize("events", [BEFORE, AFTER], ids=["evaluated before", "evaluated after"])
def test_checkpoint_has_its_evaluation_and_no_other_metric(
    events: list[Written], tmp_path: Path, client: Any, base: Path
) -> None:
    others = [metrics(2, loss=4.0), metrics(1, eval_loss=9.0)]
    plan = record(tmp_path, base, *others, *events, metrics(3, eval_loss=1.0))
    assert evaluations(client, plan) == {"checkpoint-2": [(2, "eval_loss", 3.0), (2, "eval_runtime", 1.0)]}


def test_final_model_has_the_evaluation_of_its_step(tmp_path: Path, client: Any, base: Path) -> None:
    model = ("model", {"step": 4, "path": "model", "bytes": 5})
    plan = record(tmp_path, base, metrics(4, eval_loss=2.0), model, metrics(2, eval_loss=3.0))
    assert evaluations(client, plan) == {"model": [(4, "eval_loss", 2.0)]}


def test_evaluation_that_was_recorded_before_an_interruption_reaches_the_checkpoint_after_it(
    tmp_path: Path, client: Any, base: Path
) -> None:
    plan = record(tmp_path, base, metrics(2, eval_loss=3.0))
    write_events(plan, ("attempt", {"number": 2, "step": 0}), saved(2), phase("done"), attempt=2)
    rewind(plan, status=None)
    assert record_run(Path(plan.run_dir), base).ok
    assert evaluations(client, plan) == {"checkpoint-2": [(2, "eval_loss", 3.0)]}


def test_recording_twice_adds_no_metric(tmp_path: Path, client: Any, base: Path) -> None:
    plan = record(tmp_path, base, *BEFORE, metrics(4, eval_loss=2.0), saved(4))
    before = evaluations(client, plan)
    rewind(plan, offset=0, closed=False, described=False)
    assert record_run(Path(plan.run_dir), base).ok
    assert evaluations(client, plan) == before
    run = run_of(client, plan)
    assert len(client.get_metric_history(run.info.run_id, "eval_loss")) == 2


def test_mlflow_ranks_the_checkpoints_by_their_evaluation(tmp_path: Path, client: Any, base: Path) -> None:
    losses = {2: 3.0, 4: 1.0, 6: 2.0}
    events = [each for step, loss in losses.items() for each in (metrics(step, eval_loss=loss), saved(step))]
    run = run_of(client, record(tmp_path, base, *events))
    ranked = client.search_logged_models(
        [run.info.experiment_id],
        filter_string=f"source_run_id = '{run.info.run_id}'",
        order_by=[{"field_name": "metrics.eval_loss", "ascending": True}],
    )
    assert [model.name for model in ranked] == ["checkpoint-4", "checkpoint-6", "checkpoint-2"]
