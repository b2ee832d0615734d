"""The compiled ds_config.json works as it stands: with deepspeed.initialize, and with the Trainer."""

import json
import socket
import subprocess
import sys
from typing import Any

import pytest

from tests.support.process import REPOSITORY, SMALL, environment, zpipe

pytestmark = pytest.mark.real

TORCH_ADAM = "optimizer.params.torch_adam=true"
"""PyTorch's own: DeepSpeed's operator would be built once more, with other flags than zpipe's."""

PLANS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "zero2_bf16": (
        ["stage=2", "precision=bf16", "optimizer=adamw", TORCH_ADAM, "scheduler=warmup_decay"],
        {"stage": 2, "optimizer": "AdamW", "scheduler": "WarmupDecayLR", "bf16": True, "batch": 2},
    ),
    "zero3_fp32": (
        ["stage=3", "precision=fp32", "optimizer=sgd", "optimizer.params.momentum=0.9", "scheduler=warmup"],
        {"stage": 3, "optimizer": "SGD", "scheduler": "WarmupLR", "bf16": False, "batch": 2},
    ),
    "zero1_accumulating": (
        [
            "stage=1",
            "precision=bf16",
            "optimizer=adam",
            TORCH_ADAM,
            "batch.gradient_accumulation_steps=2",
            "scheduler=one_cycle",
            "scheduler.params.cycle_first_step_size=20",
            "train.max_grad_norm=0.5",
        ],
        {"stage": 1, "optimizer": "Adam", "scheduler": "OneCycle", "bf16": True, "batch": 4, "clipping": 0.5},
    ),
}


WAYS = [*(("initialize", name) for name in PLANS), ("trainer", "zero2_bf16")]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], dict[str, Any]]:
    """What each way of training said of itself: losses, and settings of the engine."""
    cwd = tmp_path_factory.mktemp("alone")
    steps = ["train.max_steps=8", "train.learning_rate=1e-2"]
    for name, (overrides, _) in PLANS.items():
        planned = zpipe(cwd, "plan", *SMALL, *overrides, *steps, folder=name)
        assert planned.exit_code == 0, planned.explain()
    script = REPOSITORY / "tests" / "support" / "json_alone.py"
    done = subprocess.run(
        [sys.executable, str(script), *(f"{how}={cwd / name}" for how, name in WAYS)],
        env=environment({"MASTER_PORT": str(free_port()), "CUDA_VISIBLE_DEVICES": ""}),
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"losses"')]
    return dict(zip(WAYS, lines, strict=True))


@pytest.mark.parametrize(("how", "name"), WAYS)
def test_json_trains_without_zpipe(
    how: str, name: str, trained: dict[tuple[str, str], dict[str, Any]]
) -> None:
    said = trained[how, name]
    assert said.items() >= PLANS[name][1].items()
    assert said["losses"][-1] < said["losses"][0] - 0.1


def free_port() -> int:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        return int(chosen.getsockname()[1])
