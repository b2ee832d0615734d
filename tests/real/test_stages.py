"""Every stage, offload and precision that is valid trains for real, on one rank and on two."""

import time
from pathlib import Path

import pytest

from tests.support.process import SMALL, Run, start, zpipe

pytestmark = pytest.mark.real

OFFLOADS = {
    0: ["none"],
    1: ["none", "cpu_optimizer"],
    2: ["none", "cpu_optimizer"],
    3: ["none", "cpu", "cpu_optimizer", "nvme", "nvme_optimizer"],
}
VALID = [(stage, offload) for stage, offloads in OFFLOADS.items() for offload in offloads]


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("stage", "offload"), VALID)
def test_trains_and_saves_a_model_that_loads(
    stage: int, offload: str, precision: str, ranks: int, text_file: Path, tmp_path: Path, request
) -> None:
    if "nvme" in offload:
        request.getfixturevalue("libaio")
    run = zpipe(
        tmp_path,
        *SMALL,
        f"stage={stage}",
        f"offload={offload}",
        f"precision={precision}",
        f"launcher.nproc_per_node={ranks}",
        f"data.path={text_file}",
        "train.learning_rate=1e-2",
        "tracking=none",
    )
    assert run.exit_code == 0, run.explain()
    losses = [value for _, value in run.series("loss")]
    assert len(losses) == 4
    assert losses[-1] < losses[0]
    assert_model_loads(run)


def assert_model_loads(run: Run) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(run.folder / "model")
    with torch.no_grad():
        logits = model(torch.arange(3, 40).unsqueeze(0)).logits
    assert torch.isfinite(logits).all()
    assert logits.std() > 0


def test_swap_files_exist_while_training_and_not_after(libaio: None, text_file: Path, tmp_path: Path) -> None:
    """Matrices above 1 MiB a partition, which DeepSpeed swaps; smaller ones stay in memory."""
    swap, folder = tmp_path / "nvme", tmp_path / "run"
    process = start(
        tmp_path,
        *SMALL,
        "stage=3",
        "offload=nvme",
        "precision=bf16",
        "model.config.hidden_size=768",
        "model.config.intermediate_size=1536",
        f"offload.nvme_path={swap}",
        f"data.path={text_file}",
        "tracking=none",
        f"hydra.run.dir={folder}",
    )
    seen: set[str] = set()
    while process.poll() is None:
        seen |= {file.relative_to(swap).parts[2] for file in swap.rglob("*.swp") if file.exists()}
        time.sleep(0.05)
    stdout, stderr = process.communicate()
    assert process.returncode == 0, stdout + stderr
    assert {"bfloat16params", "optimizer"} <= seen
    assert list(swap.iterdir()) == []
    assert_model_loads(Run(0, stdout, stderr, folder))
