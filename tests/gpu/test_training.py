"""Short training runs on one GPU. Run them with `pytest -m gpu`; a machine without a GPU skips them."""

from pathlib import Path

import pytest

from tests.support.process import SHORT, zpipe
from tests.support.store import Store

pytestmark = [pytest.mark.gpu, pytest.mark.real]

SCALE_POWER = 30
"""Gradients overflow at a loss scale of 2^30."""


@pytest.mark.parametrize("overrides", ["stage=1", "stage=2", "stage=3", "stage=3 offload=cpu"])
def test_bf16_trains_on_the_gpu(overrides: str, text_file: Path, tmp_path: Path) -> None:
    run = zpipe(
        tmp_path,
        *SHORT,
        *overrides.split(),
        "precision=bf16",
        "launcher.device=cuda",
        "train.learning_rate=1e-2",
        "tracking=none",
        f"data.path={text_file}",
    )
    assert run.exit_code == 0, run.explain()
    assert [event for event in run.events if event["event"] == "difference"] == []
    losses = [value for _, value in run.series("loss")]
    assert len(losses) == 4
    assert losses[-1] < losses[0]
    assert run.result["summary"]["memory/peak_reserved_gib"] > 0


def test_fp16_overflows_are_recorded(text_file: Path, tmp_path: Path) -> None:
    run = zpipe(
        tmp_path,
        *SHORT,
        "precision=fp16",
        f"precision.fp16.initial_scale_power={SCALE_POWER}",
        "precision.fp16.hysteresis=1",
        "train.max_steps=24",
        "launcher.device=cuda",
        f"data.path={text_file}",
    )
    assert run.exit_code == 0, run.explain()
    overflows = [event for event in run.events if event["event"] == "overflow"]
    assert overflows[0]["scale_before"] == 2.0**SCALE_POWER
    assert all(event["scale_after"] == event["scale_before"] / 2 for event in overflows)
    assert Store(tmp_path).only_run().data.metrics["fp16/skipped_steps"] == len(overflows)


def test_a_run_allocates_no_more_gpu_memory_than_described(text_file: Path, tmp_path: Path) -> None:
    given = [*SHORT, "precision=bf16", "tracking=none", "launcher.device=cuda", f"data.path={text_file}"]
    run = zpipe(tmp_path, *given, "hardware.gpu_memory_gib=4")
    assert run.exit_code == 0, run.explain()
    assert run.result["summary"]["memory/peak_reserved_gib"] <= 4
    assert run.result["summary"]["tflops_per_gpu"] > 0
    large = zpipe(
        tmp_path,
        "model=llama3_1b",
        "precision=bf16",
        "data.max_length=512",
        "train.max_steps=2",
        "checkpoint=none",
        "tracking=none",
        "hardware.gpu_memory_gib=4",
        "memory.check=warn",
        f"data.path={text_file}",
        folder="large",
    )
    assert large.result["ending"] == "gpu_out_of_memory", large.explain()
