"""Secrets reach neither the run folder nor the terminal nor MLflow nor the archive of a bug report."""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.archives import unpack
from tests.support.process import SMALL, Run, verb, with_leak, zpipe
from tests.support.server import Server

pytestmark = pytest.mark.real

SECRETS = {
    "in the tracking URI": "uri-pw-planted",
    "in launcher.env": "env-key-planted",
    "in a tag": "tag-token-planted",
    "in the environment": "hf_" + "planted" * 4,
    "in another URI": "db-pw-planted",
}
URI_PASSWORD, WORKER_KEY, TAG_TOKEN, PARENT_TOKEN, DATABASE_PASSWORD = SECRETS.values()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    server.start()
    yield server
    server.kill()


@dataclass(frozen=True)
class Failed:
    run: Run
    report: Run
    archive: Path


@pytest.fixture(scope="module")
def failed(server: Server, text_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Failed:
    """A run whose worker prints all that it knows and fails with a message that says it; and its report."""
    cwd = tmp_path_factory.mktemp("secrets")
    env = {"HF_TOKEN": PARENT_TOKEN, **with_leak("HF_TOKEN", "WORKER_API_KEY", "DATABASE")}
    run = zpipe(
        cwd,
        *SMALL,
        f"data.path={text_file}",
        f"tracking.uri={server.uri.replace('://', f'://me:{URI_PASSWORD}@')}",
        f"launcher.env.WORKER_API_KEY={WORKER_KEY}",
        f"launcher.env.DATABASE=postgresql://me:{DATABASE_PASSWORD}@host/db",
        f"tracking.tags.access_token={TAG_TOKEN}",
        env=env,
    )
    report = verb(cwd, "report", str(run.folder), "--output", "bug.tar.gz", folder=run.folder, env=env)
    return Failed(run, report, cwd / "bug.tar.gz")


def files_with_secrets(folder: Path) -> list[tuple[str, str]]:
    return [
        (str(file), name)
        for file in folder.rglob("*")
        if file.is_file()
        for name, secret in SECRETS.items()
        if secret.encode() in file.read_bytes()
    ]


def test_the_run_is_recorded_with_the_password_and_fails_for_its_own_reason(failed: Failed) -> None:
    assert failed.run.exit_code == 4, failed.run.explain()
    assert "no connection as ***" in failed.run.result["reason"]
    assert failed.run.result["mlflow_run_id"]


def test_the_worker_did_print_them(failed: Failed) -> None:
    (log,) = failed.run.attempt.rank_logs("stderr", 0)
    assert log.read_text().count("connecting with") >= 3
    assert "connecting with *** now" in log.read_text()


def test_none_is_in_the_run_folder(failed: Failed) -> None:
    assert files_with_secrets(failed.run.folder) == []
    assert (failed.run.folder / ".hydra" / "overrides.yaml").is_file()


def test_none_is_on_the_terminal(failed: Failed) -> None:
    shown = failed.run.stdout + failed.run.stderr + failed.report.stdout + failed.report.stderr
    assert [name for name, secret in SECRETS.items() if secret in shown] == []


def test_none_is_in_mlflow(failed: Failed, server: Server) -> None:
    client = server.client()
    run = client.get_run(failed.run.result["mlflow_run_id"])
    assert run.data.tags["access_token"] == "***"  # noqa: S105 - no password
    folder = Path(server.folder)
    assert (folder / "server.db").is_file()
    assert [file.name for file in folder.rglob("plan.json")] == ["plan.json"]
    assert files_with_secrets(folder) == []


def test_the_archive_has_what_a_bug_report_needs(failed: Failed) -> None:
    assert failed.report.exit_code == 0, failed.report.explain()
    with tarfile.open(failed.archive) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    wanted = {"README.txt", "plan.json", "ds_config.json", "config.yaml"}
    wanted |= {"versions.txt", "hardware.txt", "environment.txt", "operators.txt"}
    wanted |= {f"attempt-1/{name}" for name in ("result.json", "events.jsonl", "rank0.error.json")}
    assert wanted <= set(names)
    assert any(name.endswith("stderr.log") for name in names)


def test_the_archive_has_none_of_them(failed: Failed, tmp_path: Path) -> None:
    unpack(failed.archive, tmp_path)
    assert files_with_secrets(tmp_path) == []
    (root,) = tmp_path.iterdir()
    assert "HF_TOKEN=***" in (root / "environment.txt").read_text()
    assert "deepspeed==" in (root / "versions.txt").read_text()
    assert "GiB" in (root / "hardware.txt").read_text()
    assert "async_io" in (root / "operators.txt").read_text()
    assert "no connection as ***" in (root / "attempt-1" / "rank0.error.json").read_text()


def test_an_archive_that_exists_is_not_overwritten(failed: Failed) -> None:
    before = failed.archive.read_bytes()
    run = failed.run.folder
    again = verb(run.parent, "report", str(run), "--output", str(failed.archive), folder=run)
    assert again.exit_code == 2
    assert failed.archive.read_bytes() == before
