"""Invalid input: one clear message each, exit code 2, no traceback and nothing in MLflow."""

from pathlib import Path

import pytest

from tests.support.process import SMALL, zpipe
from tests.support.store import Store
from zpipe.cli.main import main

TYPED = [
    (["stge=3"], "stge", "stage=3"),
    (["stage.reduce_buket_size=1"], "stage.reduce_buket_size", "stage.reduce_bucket_size=1"),
    (["offload=nvm"], "offload", "offload=nvme"),
    (["stage=2", "offload=nvme"], "offload.offload_optimizer.device", "stage=3"),
    (
        ["precision=bf16", "precision.fp16.initial_scale_power=8"],
        "precision.fp16.initial_scale_power",
        "precision=fp16",
    ),
    (["data.path=missing.jsonl"], "data.path", "no such file"),
    (["data.path=empty.jsonl"], "data.path", "empty"),
    (["model.name_or_path=./nothing"], "model.name_or_path", "no such folder"),
    (["train.max_steps=many"], "train.max_steps", "integer"),
    (["stage=[2"], "stage=[2", "cannot be read"),
]


@pytest.mark.parametrize("verb", ["plan", "run"])
@pytest.mark.parametrize(("typed", "key", "help_"), TYPED, ids=[" ".join(row[0]) for row in TYPED])
def test_invalid_input_is_refused_before_a_file_is_written(
    verb: str,
    typed: list[str],
    key: str,
    help_: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.jsonl").touch()
    assert main([verb, *typed]) == 2
    message = capsys.readouterr().err
    assert key in message
    assert help_ in message
    assert [path.name for path in tmp_path.iterdir()] == ["empty.jsonl"]


def refused_by_the_worker(tmp_path: Path, *overrides: str) -> str:
    """The message of a real run that its worker refuses."""
    run = zpipe(tmp_path, *overrides)
    assert run.exit_code == 2, run.explain()
    assert "Traceback" not in run.stderr + run.stdout
    assert Store(tmp_path).runs() == []
    return run.stderr


@pytest.mark.real
def test_invalid_json_is_refused_with_file_and_line_number(tmp_path: Path) -> None:
    lines = ['{"text": "a line of text to train on"}'] * 20
    lines[6] = '{"text": "broken'
    (tmp_path / "train.jsonl").write_text("\n".join(lines))
    message = refused_by_the_worker(tmp_path, *SMALL, "data.path=train.jsonl")
    assert "line 7" in message
    assert "train.jsonl" in message


@pytest.mark.real
def test_data_without_a_trainable_token_is_refused(tmp_path: Path) -> None:
    row = '{"messages": [{"role": "user", "content": "a question without an answer"}]}\n'
    (tmp_path / "train.jsonl").write_text(row * 50)
    assert "data.path" in refused_by_the_worker(tmp_path, *SMALL, "data.path=train.jsonl")


@pytest.mark.real
def test_hub_model_is_refused_offline(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"text": "a line"}\n' * 20)
    message = refused_by_the_worker(tmp_path, "data.path=train.jsonl", "model.name_or_path=org/unseen")
    assert "offline" in message
