"""An fp16 run whose gradients overflow: its events, its MLflow run and MLflow's page of it.

The training is real. tests/support/fp16_on_cpu makes DeepSpeed accept fp16 on every processor.
"""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import preloaded
from tests.support.browser import picture, text_of
from tests.support.process import SMALL, Run, environment, fp16_on_cpu, zpipe
from tests.support.store import Store, put_store

pytestmark = pytest.mark.real

FIRST_POWER = 30
"""Gradients overflow at a loss scale of 2^30."""
Events = list[dict[str, Any]]


OVERFLOWING = (
    *SMALL,
    "precision=fp16",
    f"precision.fp16.initial_scale_power={FIRST_POWER}",
    "precision.fp16.hysteresis=1",
    "train.max_steps=24",
)


@pytest.fixture(scope="module")
def stage_2(tmp_path_factory: pytest.TempPathFactory, text_file: Path, empty_store: Path) -> Run:
    cwd = put_store(empty_store, tmp_path_factory.mktemp("stage-2"))
    more = ("tracking.run_name=page", "checkpoint=default", "checkpoint.save_steps=12")
    run = zpipe(cwd, *OVERFLOWING, f"data.path={text_file}", "stage=2", *more, env=fp16_on_cpu())
    assert run.exit_code == 0, run.explain()
    return run


@pytest.fixture(scope="module")
def stage_3(tmp_path_factory: pytest.TempPathFactory, text_file: Path, empty_store: Path) -> Run:
    cwd = put_store(empty_store, tmp_path_factory.mktemp("stage-3"))
    run = preloaded.zpipe(cwd, *OVERFLOWING, f"data.path={text_file}", "stage=3", env=fp16_on_cpu())
    assert run.exit_code == 0, run.explain()
    return run


@pytest.fixture(scope="module", params=["stage_2", "stage_3"])
def run(request: pytest.FixtureRequest) -> Any:
    """A finished run at each stage."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def overflows(run: Run) -> Events:
    events = [event for event in run.events if event["event"] == "overflow"]
    assert len(events) >= 3, "the initial loss scale is high enough for several overflows"
    return events


def test_each_overflow_halves_the_loss_scale(overflows: Events) -> None:
    assert overflows[0]["scale_before"] == 2.0**FIRST_POWER
    for event in overflows:
        assert event["scale_after"] == event["scale_before"] / 2


def test_each_overflow_counts_one_skipped_step(overflows: Events) -> None:
    assert [event["skipped_total"] for event in overflows] == list(range(1, len(overflows) + 1))


def test_mlflow_counts_every_overflow(run: Run, overflows: Events) -> None:
    store = Store(run.folder.parent)
    recorded = store.only_run()
    steps = [event["step"] for event in overflows]
    assert [
        step for step, value in store.series(recorded.info.run_id, "fp16/overflow") if value == 1
    ] == steps
    skipped = dict(store.series(recorded.info.run_id, "fp16/skipped_steps"))
    assert [skipped[step] for step in steps] == [event["skipped_total"] for event in overflows]
    assert recorded.data.metrics["fp16/skipped_steps"] == len(overflows)


def test_mlflow_has_the_loss_scale_after_each_overflow(run: Run, overflows: Events) -> None:
    store = Store(run.folder.parent)
    scale = dict(store.series(store.only_run().info.run_id, "fp16/loss_scale"))
    assert [scale[event["step"]] for event in overflows] == [event["scale_after"] for event in overflows]


def test_mlflow_has_a_table_of_overflows(run: Run) -> None:
    store = Store(run.folder.parent)
    assert "precision_events.json" in store.artifacts(store.only_run().info.run_id)


def test_overflows_are_printed(run: Run, overflows: Events) -> None:
    assert run.stdout.count("gradients not finite, step skipped") == len(overflows)


def test_fp16_is_refused_without_processor_support(text_file: Path, tmp_path: Path) -> None:
    overrides = (*SMALL, "precision=fp16", f"data.path={text_file}")
    run = preloaded.zpipe(tmp_path, *overrides, env=fp16_on_cpu(False))
    assert run.exit_code == 2, run.explain()
    assert "precision=bf16" in run.stderr
    assert "Traceback" not in run.stderr
    assert Store(tmp_path).runs() == []


@pytest.fixture(scope="module")
def page(stage_2: Run) -> Iterator[str]:
    """Address of the run's page while `zpipe ui` serves it."""
    cwd = stage_2.folder.parent
    process = subprocess.Popen(
        [sys.executable, "-m", "zpipe", "ui"],
        cwd=cwd,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    address = next(found[0] for line in process.stdout if (found := re.search(r"http://[^/\s]+", line)))
    run = Store(cwd).only_run()
    yield f"{address}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
    process.send_signal(signal.SIGINT)
    process.wait(timeout=30)


def test_page_shows_the_run_and_its_checkpoints(browser: Any, page: str) -> None:
    text_of(browser, page, "page", "Finished", "checkpoint-12", "checkpoint-24", "fp16/loss_scale")


def test_page_charts_loss_and_loss_scale(browser: Any, page: str) -> None:
    """MLflow groups charts by the prefix of the metric; a search opens the groups with results."""
    text_of(browser, f"{page}/model-metrics", "fp16", "loss_scale", "Model metrics")
    time.sleep(5)  # the page drops input while it still loads
    browser.find_element("css selector", "input[placeholder*='Search metric']").send_keys("loss")
    deadline = time.monotonic() + 30
    lines: set[str] = set()
    while not {"loss", "loss_scale"} <= lines:
        assert time.monotonic() < deadline, sorted(lines)
        time.sleep(0.5)
        lines = set(str(browser.execute_script("return document.body.innerText")).splitlines())
    picture(browser, "mlflow-run.png")


def test_page_lists_the_artifacts(browser: Any, page: str) -> None:
    text_of(browser, f"{page}/artifacts", "ds_config.json", "plan.json", "config.yaml", "events.jsonl")


def test_a_training_without_a_single_step_saves_no_model(
    tmp_path: Path, text_file: Path, empty_store: Path
) -> None:
    run = preloaded.zpipe(
        put_store(empty_store, tmp_path),
        *SMALL,
        "precision=fp16",
        "precision.fp16.loss_scale=1e38",
        "precision.max_nonfinite_steps=null",
        "precision.max_skipped_steps_at_min_scale=null",
        "train.max_steps=2",
        f"data.path={text_file}",
        env=fp16_on_cpu(),
    )
    assert run.exit_code == 18, run.explain()
    assert run.result["ending"] == "nothing_learned"
    assert "each of the 2 steps was skipped" in run.stdout
    assert not (run.folder / "model").exists()
    assert Store(tmp_path).only_run().info.status == "FAILED"
