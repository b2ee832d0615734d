"""Real fp16 training with real overflows on the CPU, and what MLflow's store says about them.

DeepSpeed refuses fp16 on most CPUs; tests/support/fp16_on_cpu makes it say yes, and changes nothing else.
"""

from pathlib import Path
from typing import Any

import pytest

from tests.support.process import SMALL, Run, fp16_on_cpu, zpipe
from tests.support.store import Store

pytestmark = pytest.mark.real

FIRST_POWER = 30


@pytest.fixture(scope="module", params=[2, 3])
def overflowing(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, text_file: Path
) -> Run:
    cwd = tmp_path_factory.mktemp(f"fp16-{request.param}")
    run = zpipe(
        cwd,
        *SMALL,
        f"stage={request.param}",
        "precision=fp16",
        f"precision.fp16.initial_scale_power={FIRST_POWER}",
        "precision.fp16.hysteresis=1",
        "train.max_steps=24",
        f"data.path={text_file}",
        env=fp16_on_cpu(),
    )
    assert run.exit_code == 0, run.explain()
    return run


@pytest.fixture(scope="module")
def overflows(overflowing: Run) -> list[dict[str, Any]]:
    events = [event for event in overflowing.events if event["event"] == "overflow"]
    assert len(events) >= 3, "the first scale was chosen so that gradients overflow"
    return events


def test_each_overflow_halves_the_scale_and_counts_a_skipped_step(overflows: list[dict[str, Any]]) -> None:
    assert overflows[0]["scale_before"] == 2.0**FIRST_POWER
    for number, event in enumerate(overflows, start=1):
        assert event["scale_after"] == event["scale_before"] / 2
        assert event["skipped_total"] == number


def test_mlflow_counts_every_overflow(overflowing: Run, overflows: list[dict[str, Any]]) -> None:
    store = Store(overflowing.folder.parent)
    run_id = store.only_run().info.run_id
    steps = [event["step"] for event in overflows]
    assert [step for step, value in store.series(run_id, "fp16/overflow") if value == 1] == steps
    skipped = dict(store.series(run_id, "fp16/skipped_steps"))
    assert [skipped[step] for step in steps] == [event["skipped_total"] for event in overflows]
    assert store.only_run().data.metrics["fp16/skipped_steps"] == len(overflows)


def test_mlflow_has_the_scale_after_each_overflow(overflowing: Run, overflows: list[dict[str, Any]]) -> None:
    store = Store(overflowing.folder.parent)
    scale = dict(store.series(store.only_run().info.run_id, "fp16/loss_scale"))
    for event in overflows:
        assert scale[event["step"]] == event["scale_after"]


def test_mlflow_has_the_overflows_as_a_table(overflowing: Run) -> None:
    store = Store(overflowing.folder.parent)
    assert "precision_events.json" in store.artifacts(store.only_run().info.run_id)


def test_overflows_are_said_on_the_terminal(overflowing: Run, overflows: list[dict[str, Any]]) -> None:
    assert overflowing.stdout.count("gradients not finite, step skipped") == len(overflows)


def test_fp16_without_support_is_refused_before_anything_is_recorded(text_file: Path, tmp_path: Path) -> None:
    run = zpipe(
        tmp_path, *SMALL, "precision=fp16", f"data.path={text_file}", env={"DNNL_MAX_CPU_ISA": "AVX2"}
    )
    if run.exit_code == 0:
        pytest.fail("this CPU trains in fp16: the refusal cannot be seen here")
    assert run.exit_code == 2, run.explain()
    assert "precision" in run.stderr
    assert "precision=bf16" in run.stderr
    assert "Traceback" not in run.stderr
    assert Store(tmp_path).runs() == []
