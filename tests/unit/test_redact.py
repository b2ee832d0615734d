"""Secrets are hidden by form, by name and by value. Ordinary text is unchanged."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from zpipe.launchers.logs import hide_secrets, tail
from zpipe.redact import HIDDEN, redact, redact_override, redact_tree, remember_secrets, secrets_among
from zpipe.redact.lines import redact_lines
from zpipe.runfolder.folder import Attempt


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests register secrets in this process."""
    monkeypatch.setattr("zpipe.redact.values._known", set())


@pytest.mark.parametrize(
    "secret",
    [
        "hf_" + "aB3" * 10,
        "ghp_" + "x1" * 18,
        "sk-" + "abc123" * 5,
        "AKIA" + "ABCDEFGH12345678",
        "dapi" + "0123456789abcdef" * 2,
        "xoxb-1234567890-abc",
    ],
)
def test_access_token_is_hidden(secret: str) -> None:
    assert secret not in redact(f"logged in with {secret} at the hub")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("HF_TOKEN=abcdefg done", "HF_TOKEN=*** done"),
        ('{"password": "hunter2", "x": 1}', '{"password": "***", "x": 1}'),
        ("Authorization: Bearer abcdefghijk", "Authorization: Bearer ***"),
        ("launcher.env.API_KEY=xyzzy12,stage=2", "launcher.env.API_KEY=***,stage=2"),
        ("client_secret = 'a b'", "client_secret = '***'"),
    ],
)
def test_value_with_secret_like_name_is_hidden(text: str, shown: str) -> None:
    assert redact(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "a mail to x@y at 12:30, see http://host:80/path",
        '"api_key": null, "eos_token_id": 2',
        "step 3/4  loss 5.0872  13,584 tokens/s  max_tokens=5  num_tokens: 7",
        "the tokenizer has no pad token, disk-usage of task-abcdefghijklmnopqrstuvwxyz",
    ],
)
def test_ordinary_text_is_unchanged(text: str) -> None:
    assert redact(text) == text


def test_remembered_secret_is_hidden_everywhere() -> None:
    remember_secrets({"MY_PASSWORD": "correct-horse", "SHORT_TOKEN": "abc", "PLAIN": "visible"})
    assert redact("horse: correct-horse, abc, visible") == f"horse: {HIDDEN}, abc, visible"


def test_secret_environment_variable_is_hidden_everywhere() -> None:
    code = "from zpipe.redact import redact; print(redact('output battery-staple and user'))"
    environment = {**os.environ, "SOME_API_KEY": "battery-staple", "DB_URL": "postgres://user:pa55word@h/db"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"output {HIDDEN} and user\n"


@pytest.mark.parametrize("name", ["MYSQL_PWD", "DB_PASS", "AZURE_STORAGE_KEY", "WANDB_KEY", "GITHUB_PAT"])
def test_conventional_secret_variable_is_hidden(name: str) -> None:
    assert redact_override(f"launcher.env.{name}=correct-horse") == f"launcher.env.{name}={HIDDEN}"


@pytest.mark.parametrize("override", ["model.tokenizer=bytes", "compile=torch", "data.path=/a/pass/key.txt"])
def test_override_that_only_resembles_a_secret_is_unchanged(override: str) -> None:
    assert redact_override(override) == override


@pytest.mark.parametrize("name", ["PWD", "OLDPWD", "PATH", "HOME", "PASS_THROUGH"])
def test_shell_folder_variables_are_not_secrets(name: str) -> None:
    assert secrets_among({name: "/home/me/work"}) == set()


def test_secrets_are_hidden_in_trees_and_overrides() -> None:
    tree = {
        "overrides": ["launcher.env.HF_TOKEN=xyzzy12", "stage=2"],
        "env": {"A_SECRET": "q", "B": "c"},
        "n": 1,
    }
    assert redact_tree(tree) == {
        "overrides": [f"launcher.env.HF_TOKEN={HIDDEN}", "stage=2"],
        "env": {"A_SECRET": HIDDEN, "B": "c"},
        "n": 1,
    }
    assert redact_override("tracking.tags.token=abc") == f"tracking.tags.token={HIDDEN}"


@pytest.mark.parametrize(
    "text",
    [
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.CANARYc2lnbmF0",
        "DefaultEndpointsProtocol=https;AccountKey=CANARYc2VjcmV0==;EndpointSuffix=x",
        "https://a.blob.core.windows.net/c?sv=2022&sig=CANARYDEF%3D",
        "https://b.s3.amazonaws.com/k?X-Amz-Signature=CANARY0123",
        "HTTPS://CANARYtoken@host/x",
        "Authorization: Basic CANARYdXNlcjpwYXNz",
        "basic dXNlcjpDQU5BUlk=",
        "-----BEGIN PRIVATE KEY-----CANARY",
        "--token CANARYvalue",
        "curl -u me:CANARYvalue http://h",
        "launcher.env.ANYTHING=CANARY stage=2",
        "password 'CANARY' rejected",
    ],
)
def test_further_forms_are_hidden(text: str) -> None:
    assert "CANARY" not in redact(text)
    assert "dXNlcjpDQU5BUlk" not in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        '"mlflow_run_id": "abc", "experiment": "mlflow"',
        '"eos_token": "</s>", "pad_token": "<pad>", "bos_token: <s>"',
        "num_key_value_heads=2, allowed: group.key=value",
        "the basic sweeper, basic training of models",
    ],
)
def test_words_of_zpipe_are_not_garbled(text: str) -> None:
    remember_secrets({}, "postgresql://mlflow:mlflow@db/mlflow")
    remember_secrets({"DB_PASSWORD": "training", "PASSWORD": "abc"})
    assert redact(text, "postgresql://mlflow:mlflow@db") == text


def test_common_password_is_hidden_in_its_place() -> None:
    assert redact("postgresql://mlflow:mlflow@db") == "postgresql://mlflow:***@db"


def test_variables_of_the_workers_are_hidden_except_settings() -> None:
    tree = {"launcher": {"env": {"NCCL_DEBUG": "INFO", "ANYTHING": "abc", "N": 4711, "FLAG": "1"}}}
    shown = {"NCCL_DEBUG": "INFO", "ANYTHING": HIDDEN, "N": HIDDEN, "FLAG": "1"}
    assert redact_tree(tree) == {"launcher": {"env": shown}}
    assert redact_override("launcher.env={ANYTHING: abc}") == f"launcher.env={HIDDEN}"


KEY = [
    "-----BEGIN RSA PRIVATE KEY-----",
    "MIIEpAIBAAKCAQEA7bq",
    "Xq1v9/abc+",
    "-----END RSA PRIVATE KEY-----",
]


def test_no_line_of_a_private_key_is_shown() -> None:
    shown = list(redact_lines(f"{line}\n" for line in ["before", *KEY, "after"]))
    assert [line.strip() for line in shown] == [
        "before",
        f"{KEY[0]}{HIDDEN}",
        HIDDEN,
        HIDDEN,
        KEY[3],
        "after",
    ]
    assert all(line.endswith("\n") for line in shown)


def test_an_incomplete_key_hides_no_more_than_a_key_has() -> None:
    lines = [KEY[0], *(f"line {number}" for number in range(1000))]
    assert list(redact_lines(lines))[-600:] == lines[-600:]


def test_logs_and_their_last_lines_have_no_private_key(tmp_path: Path) -> None:
    folder = Attempt(tmp_path).logs / "none_1" / "attempt_0" / "0"
    folder.mkdir(parents=True)
    log = folder / "stderr.log"
    log.write_text("\n".join([*KEY, "after"]))
    assert tail(log, 3) == [HIDDEN, KEY[3], "after"]
    hide_secrets(Attempt(tmp_path))
    assert not any(line in log.read_text() for line in KEY[1:3])
