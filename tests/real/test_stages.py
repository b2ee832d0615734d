"""Every valid pair of stage and offload trains for real, in bf16 and in fp32, on one rank and on two."""

import math
import time
from pathlib import Path

import pytest

from tests.support.in_turn import train_in_turn
from tests.support.limits import small_lock_limit
from tests.support.process import SMALL, Run, start, zpipe
from tests.support.stage_matrix import ONE_RANK, SHARE_OF_TWO_RANKS, Case

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def in_turn(libaio: None, text_file: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """All cases of one rank, trained one after the other in one process; by name."""
    cwd = tmp_path_factory.mktemp("in-turn")
    return train_in_turn(cwd, {case.name: case.overrides(text_file) for case in ONE_RANK})


@pytest.mark.parametrize("case", ONE_RANK, ids=lambda case: case.name)
def test_one_rank_trains_as_planned(case: Case, in_turn: dict[str, Run]) -> None:
    assert_trained(case, in_turn[case.name])


def test_every_stage_has_the_same_losses(in_turn: dict[str, Run]) -> None:
    """DeepSpeed counts a step too many at stage 0 in 16 bits: unmended, its losses are 2% off."""
    alike = [case for case in ONE_RANK if not case.choices]
    losses = [[value for _, value in in_turn[case.name].series("loss")] for case in alike]
    assert [case.stage for case in alike] == [0, 1, 2, 3]
    for found in losses[1:]:
        assert found == pytest.approx(losses[0], rel=2e-3)


@pytest.mark.parametrize("case", SHARE_OF_TWO_RANKS, ids=lambda case: case.name)
def test_two_ranks_train_as_planned(case: Case, libaio: None, text_file: Path, tmp_path: Path) -> None:
    assert_trained(case, zpipe(tmp_path, *case.overrides(text_file)))


def assert_trained(case: Case, run: Run) -> None:
    """No difference from the plan, four finite losses, and a model that loads."""
    assert run.exit_code == 0, run.explain()
    assert [event for event in run.events if event["event"] == "difference"] == []
    losses = [value for _, value in run.series("loss")]
    assert len(losses) == 4
    assert all(map(math.isfinite, losses))
    assert case.chosen or losses[-1] < losses[0]
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
    """Matrices above 1 MiB a partition, which DeepSpeed swaps; smaller ones stay in memory.

    The limit of locked memory is smaller than the swap buffers, as for an ordinary user.
    """
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
        before=small_lock_limit,
    )
    seen: set[str] = set()
    while process.poll() is None:
        seen |= {file.relative_to(swap).parts[2] for file in swap.rglob("*.swp") if file.exists()}
        time.sleep(0.05)
    stdout, stderr = process.communicate()
    assert process.returncode == 0, stdout + stderr
    assert {"bfloat16params", "optimizer"} <= seen
    assert "swap buffers beyond 64.0 KiB are not locked in memory" in stderr
    assert list(swap.iterdir()) == []
    assert_model_loads(Run(0, stdout, stderr, folder))
