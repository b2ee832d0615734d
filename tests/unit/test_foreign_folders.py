"""A run folder that somebody else made is data: it chooses neither what is removed nor what is executed."""

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.archives import unpack
from tests.support.planning import plan_of
from tests.support.plans import begin_attempt
from zpipe.diagnose import archive
from zpipe.machine import describe
from zpipe.plans.plan import Plan
from zpipe.problems import Refusal
from zpipe.record.record_run import record_run
from zpipe.runfolder.folder import RunFolder
from zpipe.runfolder.outcome import Outcome, write_outcome
from zpipe.runfolder.plan_file import read_plan_here, write_plan
from zpipe.runfolder.swap_folder import MARK, create_swap_folder, remove_swap_folder, swap_folder_of


def nvme_plan(run_dir: Path, nvme_path: Path | None = None) -> Plan:
    path = [f"offload.nvme_path={nvme_path}"] if nvme_path else []
    return plan_of("stage=3", "offload=nvme", *path, run_dir=run_dir)


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """A folder of the user that no run owns."""
    folder = tmp_path / "precious"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    return folder


@pytest.mark.parametrize("nvme_path", ["nvme", None], ids=["shared path", "run folder"])
def test_own_swap_folder_is_removed(nvme_path: str | None, tmp_path: Path) -> None:
    plan = nvme_plan(tmp_path / "run", tmp_path / nvme_path if nvme_path else None)
    create_swap_folder(plan)
    assert plan.swap_dir is not None
    (Path(plan.swap_dir) / "rank0.swp").write_bytes(b"x")
    remove_swap_folder(plan)
    assert not Path(plan.swap_dir).exists()


def test_plan_that_names_another_folder_removes_nothing(precious: Path, tmp_path: Path) -> None:
    plan = nvme_plan(tmp_path / "run").model_copy(update={"swap_dir": str(precious)})
    (precious / MARK).write_text(plan.run_dir)
    remove_swap_folder(plan)
    assert (precious / "thesis.txt").exists()


def test_unmarked_folder_is_not_removed(tmp_path: Path) -> None:
    plan = nvme_plan(tmp_path / "run", tmp_path / "nvme")
    assert plan.swap_dir is not None
    folder = Path(plan.swap_dir)
    folder.mkdir(parents=True)
    (folder / "file").write_text("not of this run")
    remove_swap_folder(plan)
    assert (folder / "file").exists()


def test_link_in_place_of_the_swap_folder_is_not_followed(precious: Path, tmp_path: Path) -> None:
    plan = nvme_plan(tmp_path / "run")
    assert plan.swap_dir is not None
    (precious / MARK).write_text(plan.run_dir)
    Path(plan.run_dir).mkdir()
    Path(plan.swap_dir).symlink_to(precious)
    remove_swap_folder(plan)
    assert (precious / "thesis.txt").exists()


def test_folder_with_files_of_others_cannot_become_a_swap_folder(tmp_path: Path) -> None:
    plan = nvme_plan(tmp_path / "run", tmp_path / "nvme")
    assert plan.swap_dir is not None
    Path(plan.swap_dir).mkdir(parents=True)
    (Path(plan.swap_dir) / "file").write_text("not of this run")
    with pytest.raises(FileExistsError):
        create_swap_folder(plan)


@pytest.mark.parametrize(
    ("one", "other"), [("/alice/runs/1", "/bob/runs/1"), ("/x/a-b/c", "/x/a/b-c")], ids=["users", "dashes"]
)
def test_two_run_folders_have_two_swap_folders(one: str, other: str) -> None:
    offload = nvme_plan(Path("/r"), Path("/nvme")).experiment.offload
    assert swap_folder_of(offload, Path(one)) != swap_folder_of(offload, Path(other))


def test_report_does_not_use_the_environment_of_the_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of("launcher.env.PYTHONPATH=/evil", run_dir=tmp_path / "run")
    write_plan(plan)
    seen: list[dict[str, str]] = []

    def output_of(argv: list[str], seconds: float, env: Any = None) -> str:
        seen.append(dict(env or {}))
        return ""

    monkeypatch.setattr(describe, "_output_of", output_of)
    archive.write_archive(RunFolder(tmp_path / "run"), tmp_path / "report.tar.gz", lambda text: None)
    assert seen, "DeepSpeed's report was not asked for"
    assert not any("/evil" in environment.get("PYTHONPATH", "") for environment in seen)


def test_report_has_each_attempt_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, folder = plan_of(run_dir=tmp_path / "run"), RunFolder(tmp_path / "run")
    write_plan(plan)
    for number in (1, 2):
        begin_attempt(folder.path, number)
        write_outcome(Outcome(ending="failed", reason=f"end {number}", run_dir=plan.run_dir))
    monkeypatch.setattr(describe, "_output_of", lambda *arguments, **options: "")
    archive.write_archive(folder, tmp_path / "report.tar.gz", lambda text: None)
    with tarfile.open(tmp_path / "report.tar.gz") as packed:
        names = packed.getnames()
    unpack(tmp_path / "report.tar.gz", tmp_path)
    assert len(names) == len(set(names))
    for number in (1, 2):
        result = (tmp_path / "report" / f"attempt-{number}" / "result.json").read_text()
        assert f"end {number}" in result


@pytest.mark.parametrize(
    "name", ["ds_config.json", "config.yaml", "record.json", "model", "attempt-2", "checkpoint-7"]
)
def test_files_of_the_user_are_not_overwritten(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir() if "." not in name else (tmp_path / name).write_text("mine")
    with pytest.raises(Refusal, match=f"would overwrite files in this folder: {name}"):
        RunFolder(tmp_path).claim()


def test_other_files_may_be_in_a_run_folder(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    RunFolder(tmp_path).claim()


def test_two_processes_cannot_begin_one_attempt(tmp_path: Path) -> None:
    RunFolder(tmp_path / "run").begin(1)
    with pytest.raises(FileExistsError):
        RunFolder(tmp_path / "run").begin(1)
    with pytest.raises(Refusal):
        RunFolder(tmp_path / "run").claim()


def test_attempt_behind_a_link_is_not_read(precious: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "attempt-1").symlink_to(precious.parent)
    folder = RunFolder(tmp_path / "run")
    assert folder.attempts == []
    assert not folder.attempt.path.exists()


def test_moved_run_folder_is_read_with_its_new_paths(tmp_path: Path) -> None:
    write_plan(plan_of(run_dir=tmp_path / "old"))
    (tmp_path / "old").rename(tmp_path / "new")
    assert read_plan_here(RunFolder(tmp_path / "new")).run_dir == str(tmp_path / "new")
    assert json.loads((tmp_path / "new" / "plan.json").read_text())["run_dir"] == str(tmp_path / "old")


def test_record_sends_no_credentials_to_a_server_of_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_plan(plan_of("tracking.uri=http://127.0.0.1:1", run_dir=tmp_path / "run"))
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "s3cr3t-t0ken")
    with pytest.raises(Refusal, match="would get the MLflow credentials"):
        record_run(tmp_path / "run")


@pytest.mark.parametrize("how", ["option", "environment"])
def test_record_uses_a_server_that_the_user_names(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = "http://127.0.0.1:1"
    write_plan(plan_of(f"tracking.uri={server}", run_dir=tmp_path / "run"))
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "s3cr3t-t0ken")
    if how == "environment":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    result = record_run(tmp_path / "run", uri=server if how == "option" else None)
    assert not result.ok
    assert "refused" in str(result.error).lower()
