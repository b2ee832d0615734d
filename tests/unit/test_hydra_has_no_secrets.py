"""What Hydra writes, logs and prints has no secret at any moment, and no name of a folder has one."""

import logging
from pathlib import Path

import pytest
from hydra.core import utils
from omegaconf import OmegaConf

from zpipe.cli.main import main
from zpipe.compose.redact_hydra import hide_secrets_in_hydra

SECRETS = [
    "launcher.env.MY_API_KEY=CANARYkey12345",
    "launcher.env.PLAIN=CANARYplain",
    "tracking.uri=postgresql://u:CANARYpw1@127.0.0.1:1/x",
    "tracking.tags.db_password=CANARYtag",
]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("zpipe.redact.values._known", set())


@pytest.mark.parametrize(
    "flags",
    [["--cfg", "job"], ["--cfg", "all"], ["--cfg", "job", "--package", "launcher"], ["--info", "all"]],
)
def test_printed_configuration_has_none(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SECRETS, *flags]) == 0
    shown = capsys.readouterr()
    assert "PLAIN: '***'" in shown.out
    assert "CANARY" not in shown.out + shown.err


def test_record_is_written_without_them(tmp_path: Path) -> None:
    hide_secrets_in_hydra()
    config = OmegaConf.create({"launcher": {"env": {"ANY": "CANARY"}}, "tags": ["x.password=CANARY", "a=1"]})
    utils._save_config(config, "config.yaml", tmp_path / "composed")
    OmegaConf.save(config, tmp_path / "multirun.yaml")
    texts = [file.read_text() for file in (tmp_path / "composed/config.yaml", tmp_path / "multirun.yaml")]
    assert all("CANARY" not in text and "a=1" in text for text in texts)


def test_log_has_none(caplog: pytest.LogCaptureFixture) -> None:
    hide_secrets_in_hydra()
    with caplog.at_level(logging.INFO):
        logging.getLogger("hydra").info("\t#0 : %s", " ".join(SECRETS))
    assert "launcher.env.PLAIN=***" in caplog.text
    assert "CANARY" not in caplog.text


@pytest.mark.parametrize(
    "arguments",
    [
        ["plan", "hydra.run.dir=x/${oc.env:SOME_TOKEN}"],
        ["plan", "tracking.run_name=x ${oc.env:SOME_TOKEN}"],
        ["plan", "-m", "train.seed=1,2", *SECRETS, "hydra.sweep.subdir=${hydra.job.override_dirname}"],
        ["plan", "launcher.env={A_TOKEN: CANARY b, ["],
        ["plan", "launcher.env.TOKEN=CANARYa,CANARYb"],
        ["plan", *SECRETS, "stage=9"],
        ["plan", "tracking.uri=[postgresql://u:CANARYpw1@h/x"],
    ],
)
def test_refusal_does_not_repeat_them(
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("zpipe.redact.values.of_this_process", lambda: frozenset({"CANARYenv99"}))
    monkeypatch.setenv("SOME_TOKEN", "CANARYenv99")
    assert main(arguments) == 2
    assert "CANARY" not in capsys.readouterr().err
    assert [path for path in tmp_path.rglob("*") if "CANARY" in path.name] == []
