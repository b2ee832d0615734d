"""Tracking stores are checked without MLflow, created once by many processes, and shown without secrets."""

import multiprocessing
import shutil
import sqlite3
import subprocess
import sys
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from tests.support.events import EventWriter
from tests.support.plans import make_plan
from tests.support.store import put_store
from zpipe.problems import Refusal
from zpipe.record.client import open_client
from zpipe.record.record_run import record_run
from zpipe.record.revisions import installed_schema, store_revision
from zpipe.record.store import (
    artifact_root,
    check_store,
    default_uri,
    ensure_experiment,
    prepare_store,
    resolve_uri,
    sqlite_file,
)
from zpipe.redact import redact, redact_uri

AT_ONCE = 32
STEPS = 20
OLDER = "6f8d9c3b2a1e"
"""The schema revision of an older MLflow."""


@pytest.fixture(scope="module")
def base(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with a store."""
    return put_store(empty_store, tmp_path_factory.mktemp("store"))


def copy_of(base: Path, folder: Path) -> Path:
    return Path(shutil.copy(base / "outputs" / "mlflow.db", folder / "mlflow.db"))


def set_revision(file: Path, revision: str) -> None:
    connection = sqlite3.connect(file)
    with connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    connection.close()


def test_default_store_is_in_the_working_folder(tmp_path: Path) -> None:
    uri = resolve_uri(None, tmp_path)
    assert uri == f"sqlite:///{tmp_path}/outputs/mlflow.db"
    assert sqlite_file(uri) == tmp_path / "outputs" / "mlflow.db"
    assert artifact_root(uri, tmp_path) == f"{tmp_path}/outputs/mlartifacts"


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("sqlite:///runs/x.db", "sqlite:////base/runs/x.db"),
        ("sqlite:////abs/x.db", "sqlite:////abs/x.db"),
        ("https://mlflow.example", "https://mlflow.example"),
        ("postgresql://u:p@h/db", "postgresql://u:p@h/db"),
    ],
)
def test_relative_paths_are_resolved(uri: str, expected: str) -> None:
    assert resolve_uri(uri, Path("/base")) == expected


@pytest.mark.parametrize("uri", ["http://h:5000", "https://h", "postgresql+psycopg2://h/d", "databricks"])
def test_servers_and_databases_pass_the_check(uri: str) -> None:
    assert check_store(uri) == []


@pytest.mark.parametrize(
    "uri", ["./mlruns", "mlruns", "file:///tmp/mlruns", "sqlite://", "sqlite:///:memory:", "ftp://h"]
)
def test_unsupported_store_is_refused_with_the_sqlite_alternative(uri: str) -> None:
    (problem,) = check_store(uri)
    assert problem.key == "tracking.uri"
    assert "sqlite:///" in problem.fix
    with pytest.raises(Refusal):
        prepare_store(uri)


def test_check_does_not_import_mlflow(base: Path) -> None:
    code = (
        "import sys; from zpipe.record.store import *;"
        f"assert check_store({default_uri(base)!r}) == []; prepare_store({default_uri(base)!r});"
        "import zpipe.record.recorder_thread, zpipe.record.ui;"
        "sys.exit(any(name in sys.modules for name in ('mlflow', 'torch', 'sqlalchemy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_revisions_are_the_same_as_in_mlflow(base: Path) -> None:
    from mlflow.store.db.utils import _get_latest_schema_revision

    assert installed_schema().head == _get_latest_schema_revision()  # type: ignore[no-untyped-call]
    assert store_revision(base / "outputs" / "mlflow.db") == installed_schema().head


def test_older_store_is_refused_and_the_proposed_command_upgrades_it(tmp_path: Path) -> None:
    from alembic import command
    from mlflow.store.db.utils import _get_alembic_config
    from mlflow.store.tracking.dbmodels.initial_models import Base
    from sqlalchemy import create_engine

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    Base.metadata.create_all(create_engine(uri))
    command.upgrade(_get_alembic_config(uri), OLDER)  # type: ignore[no-untyped-call]
    with pytest.raises(Refusal) as refusal:
        prepare_store(uri)
    command_line = refusal.value.problems[0].fix.partition("then: ")[2]
    assert command_line == f"mlflow db upgrade {uri}"
    subprocess.run([sys.executable, "-m", *command_line.split()], check=True, capture_output=True)
    prepare_store(uri)
    assert check_store(uri) == []


def test_newer_store_is_refused(base: Path, tmp_path: Path) -> None:
    file = copy_of(base, tmp_path)
    set_revision(file, "ffffffffffff")
    (problem,) = check_store(f"sqlite:///{file}")
    assert "newer MLflow" in problem.reason


def test_other_files_are_refused_and_unchanged(tmp_path: Path) -> None:
    text = tmp_path / "notes.db"
    text.write_text("these are notes, not a database\n" * 50)
    other = tmp_path / "other.db"
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE mine (x)")
    connection.close()
    for file in (text, other):
        before = file.read_bytes()
        assert "not an MLflow store" in check_store(f"sqlite:///{file}")[0].reason
        assert file.read_bytes() == before


def test_store_is_created_after_a_killed_creation(tmp_path: Path) -> None:
    (tmp_path / ".mlflow.db.unfinished").write_bytes(b"half a database")
    (tmp_path / "mlflow.db").touch()
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    prepare_store(uri)
    assert check_store(uri) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow.db", "mlflow.db.lock"]


def record_a_run(folder: Path, base: Path, gate: Barrier) -> None:
    """Records one run; any of the processes may be the first to open the store."""
    gate.wait()
    assert record_run(folder, base).ok


def test_many_processes_create_one_store(tmp_path: Path) -> None:
    import mlflow  # noqa: F401 - imported before the fork, because each process would need seconds for it

    folders = [make_run(tmp_path / f"run-{number}") for number in range(AT_ONCE)]
    context = multiprocessing.get_context("fork")
    gate = context.Barrier(AT_ONCE)
    processes = [
        context.Process(target=record_a_run, args=(folder, tmp_path, gate), daemon=True) for folder in folders
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(180)
    assert [process.exitcode for process in processes] == [0] * AT_ONCE
    client = open_client(default_uri(tmp_path))
    (experiment,) = [each for each in client.search_experiments() if each.name == "zpipe"]
    runs = client.search_runs([experiment.experiment_id])
    assert {run.data.tags["zpipe.run_dir"] for run in runs} == {str(folder) for folder in folders}
    for run in runs:
        assert run.info.status == "FINISHED"
        assert len(client.get_metric_history(run.info.run_id, "loss")) == STEPS
        assert {"plan.json", "events.jsonl"} <= {each.path for each in client.list_artifacts(run.info.run_id)}


def make_run(folder: Path) -> Path:
    """The run folder of a finished training."""
    plan = make_plan(folder)
    writer = EventWriter(folder)
    writer.write("phase", name="model", detail="")
    for step in range(STEPS):
        writer.write("metrics", step=step, values={"loss": 5.0 - step, "grad_norm": 1.0})
    writer.write("phase", name="done", detail="")
    writer.close()
    return Path(plan.run_dir)


def test_artifacts_are_next_to_the_store(base: Path) -> None:
    uri = default_uri(base)
    client = open_client(uri)
    experiment_id = ensure_experiment(client, uri, "a/b: c", base)
    assert ensure_experiment(client, uri, "a/b: c", base) == experiment_id
    location = client.get_experiment(experiment_id).artifact_location
    assert location == f"{base}/outputs/mlartifacts/a_b_c"


def test_experiment_created_by_another_process_is_used(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = default_uri(base)
    client = open_client(uri)
    existing = ensure_experiment(client, uri, "raced", base)
    look = client.get_experiment_by_name
    answers = iter([lambda name: None, look])
    monkeypatch.setattr(client, "get_experiment_by_name", lambda name: next(answers)(name))
    assert ensure_experiment(client, uri, "raced", base) == existing


def test_deleted_experiment_is_refused(base: Path) -> None:
    uri = default_uri(base)
    client = open_client(uri)
    client.delete_experiment(ensure_experiment(client, uri, "gone", base))
    with pytest.raises(Refusal, match="deleted"):
        ensure_experiment(client, uri, "gone", base)


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("postgresql://me:s3cr3t@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:p@ss/w@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
        ("https://t0ken@host/path", "https://***@host/path"),
        ("https://host/x?api_key=abcd&y=1", "https://host/x?api_key=***&y=1"),
        ("sqlite:////home/a:b@c/mlflow.db", "sqlite:////home/a:b@c/mlflow.db"),
    ],
)
def test_uris_are_shown_without_secrets(uri: str, shown: str) -> None:
    assert redact_uri(uri) == shown


def test_text_is_shown_without_secrets() -> None:
    uri = "mysql+pymysql://me:s3cr%40t@host/db"
    text = f"zpipe tracking.uri={uri} failed: login of me with 's3cr@t', see https://x:y@z and {uri}?ssl=1"
    shown = redact(text, uri)
    assert "s3cr" not in shown
    assert "x:y" not in shown
    assert "me:***@host/db" in shown
    assert redact("a mail to x@y at 12:30, see http://host:80/path") == (
        "a mail to x@y at 12:30, see http://host:80/path"
    )


def test_refusal_does_not_show_passwords() -> None:
    (problem,) = check_store("ftp://me:s3cr3t@host/x")
    assert "s3cr3t" not in str(problem)
