"""Checkpoints on one GPU. Run them with `pytest -m gpu`; a machine without a GPU skips them."""

from pathlib import Path

import pytest

from campaigns.twins import checkpoint_differences
from tests.support.process import SHORT, Run, zpipe
from zpipe.checkpoints.folders import checkpoints_in
from zpipe.checkpoints.state import inspect

pytestmark = [pytest.mark.gpu, pytest.mark.real]

LARGER = (
    *SHORT,
    "launcher.device=cuda",
    "model.config.hidden_size=512",
    "model.config.intermediate_size=2048",
    "model.config.num_hidden_layers=6",
    "train.max_steps=8",
    "train.full_determinism=true",
    "checkpoint=default",
    "checkpoint.save_steps=2",
    "checkpoint.save_total_limit=4",
    "tracking=none",
)
"""Copying the state of 25 million parameters takes longer than a step."""
MODES = ("true", "false")


@pytest.mark.parametrize(
    "settings",
    [
        "stage=2 precision=bf16",
        "stage=3 precision=bf16",
        "stage=3 precision=fp16",
        "stage=3 offload=cpu precision=bf16",
    ],
)
def test_a_checkpoint_of_the_background_holds_the_state_of_its_step(
    settings: str, text_file: Path, tmp_path: Path
) -> None:
    arguments = (*LARGER, *settings.split(), f"data.path={text_file}")
    runs = {mode: train(tmp_path / mode, *arguments, f"checkpoint.async_save={mode}") for mode in MODES}
    names = [folder.name for folder in checkpoints_in(runs["true"].folder)]
    assert names == ["checkpoint-8", "checkpoint-6", "checkpoint-4", "checkpoint-2"]
    for name in names:
        assert inspect(runs["true"].folder / name, None).state == "good"
        assert list(checkpoint_differences(runs["false"].folder, runs["true"].folder, name)) == []


def train(folder: Path, *arguments: str) -> Run:
    folder.mkdir()
    run = zpipe(folder, *arguments)
    assert run.exit_code == 0, run.explain()
    return run
