"""The DeepSpeed JSON of some command lines, and the message of every rule, as files for review.

`make golden` renews them.
"""

import json
import os
from pathlib import Path

import pytest

import zpipe
from tests.support.golden import assert_golden
from tests.support.planning import CPU, H200, gpus, plan_of, problems_of
from tests.support.refused import REFUSED, Row, command
from zpipe.machine.hardware import Hardware

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
CASES: dict[str, tuple[list[str], Hardware]] = {
    "default_on_a_cpu": ([], CPU),
    "zero2_bf16_on_a_gpu": (["recipe=llama3_1b_zero2"], gpus(H200)),
    "zero3_cpu_offload_fp16": (
        ["stage=3", "offload=cpu", "precision=fp16", "model=llama3_8b", "memory.check=warn"],
        gpus(H200),
    ),
    "zero3_nvme_bf16": (["stage=3", "offload=nvme", "precision=bf16", "model=llama3_1b"], gpus(H200)),
}


@pytest.mark.parametrize("name", CASES)
def test_ds_config_equals_the_golden_file(name: str) -> None:
    overrides, hardware = CASES[name]
    compiled = json.dumps(plan_of(*overrides, hardware=hardware).ds_config, indent=2) + "\n"
    file = GOLDEN / f"{name}.json"
    if os.environ.get("ZPIPE_RENEW_GOLDEN"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(compiled)
    assert compiled == file.read_text(), (
        f"{file.name} differs; if this is intended, run `make golden` and review"
    )


def test_a_train_job_equals_the_golden_file() -> None:
    kubeflow = {
        "image": "registry.example/zpipe:1",
        "gpus": "8xH100",
        "cpu": 64,
        "memory": "480Gi",
        "volumes": ["runs:/shared"],
        "env_from": ["hub/token/HF_TOKEN"],
    }
    plan = zpipe.plan(
        "launcher=kubeflow",
        "hydra.run.dir=/shared/runs/one",
        stage=3,
        precision="bf16",
        train={"max_steps": 100},
        tracking={"uri": "http://mlflow:5000", "run_name": "costs $(5) ${per} step"},
        launcher={"nodes": 2, "kubeflow": kubeflow},
    )
    assert_golden("trainjob.yaml", plan.launch.files["trainjob.yaml"])


REFUSALS = GOLDEN / "refusals.txt"


def test_refusal_messages_equal_the_golden_file() -> None:
    messages = "\n".join(_messages(row) for row in REFUSED)
    if os.environ.get("ZPIPE_RENEW_GOLDEN"):
        REFUSALS.write_text(messages)
    assert messages == REFUSALS.read_text(), (
        f"{REFUSALS.name} differs; if this is intended, run `make golden`"
    )


def _messages(row: Row) -> str:
    overrides, key, hardware = row
    found = [problem for problem in problems_of(*overrides, hardware=hardware) if problem.key == key]
    return "\n".join([f"$ {command(row)}", *map(str, found), ""])
