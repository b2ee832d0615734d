"""MLflow's page of a run in a real headless browser: charts, artifacts and checkpoints can be seen."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.browser import picture, text_of
from tests.support.process import SMALL, Run, environment, fp16_on_cpu, zpipe
from tests.support.store import Store

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, text_file: Path) -> Run:
    """An fp16 run with overflows and checkpoints."""
    cwd = tmp_path_factory.mktemp("page")
    run = zpipe(
        cwd,
        *SMALL,
        "precision=fp16",
        "precision.fp16.initial_scale_power=28",
        "train.max_steps=40",
        "train.learning_rate=1e-2",
        "checkpoint=default",
        "checkpoint.save_steps=20",
        "tracking.run_name=page",
        f"data.path={text_file}",
        env=fp16_on_cpu(),
    )
    assert run.exit_code == 0, run.explain()
    return run


@pytest.fixture(scope="module")
def page_url(recorded: Run) -> Iterator[str]:
    """Address of the run's page while `zpipe ui` serves it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "zpipe", "ui"],
        cwd=recorded.folder.parent,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    address = next(found[0] for line in process.stdout if (found := re.search(r"http://\S+", line)))
    run = Store(recorded.folder.parent).only_run()
    yield f"{address.rstrip('/')}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
    process.send_signal(signal.SIGINT)
    process.wait(timeout=30)


def test_overview_names_the_run_and_its_checkpoints(browser: Any, page_url: str) -> None:
    text_of(browser, page_url, "page", "Finished", "checkpoint-20", "checkpoint-40", "fp16/loss_scale")


def test_charts_show_loss_and_loss_scale(browser: Any, page_url: str) -> None:
    """MLflow makes a section of each prefix; searching the charts opens the one that is asked for."""
    text_of(browser, f"{page_url}/model-metrics", "fp16", "loss_scale", "Model metrics")
    time.sleep(5)  # what is typed before the page has settled is lost
    browser.find_element("css selector", "input[placeholder*='Search metric']").send_keys("loss")
    deadline = time.monotonic() + 30
    lines: set[str] = set()
    while not {"loss", "loss_scale"} <= lines:
        assert time.monotonic() < deadline, sorted(lines)
        time.sleep(0.5)
        lines = set(str(browser.execute_script("return document.body.innerText")).splitlines())
    picture(browser, "mlflow-run.png")


def test_artifacts_are_listed(browser: Any, page_url: str) -> None:
    text_of(browser, f"{page_url}/artifacts", "ds_config.json", "plan.json", "config.yaml", "events.jsonl")
