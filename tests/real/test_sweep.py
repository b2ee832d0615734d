"""A sweep is one parent and a child for each point, also when it was killed half-way and resumed."""

import itertools
import json
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support import preloaded
from tests.support.browser import picture, text_of
from tests.support.process import SMALL, Run, finish, processes_mentioning, start, sweep, verb
from tests.support.store import Store, put_store
from zpipe.runfolder.attempt_start import read_start
from zpipe.runfolder.folder import RunFolder, checkpoint_name

pytestmark = pytest.mark.real

STAGES = ["2", "3"]
BUCKETS = ["1e5", "5e8"]
POINTS = list(itertools.product(STAGES, BUCKETS))


@dataclass(frozen=True)
class Resumed:
    folder: Path
    before: list[Any]
    """The runs in MLflow after the kill."""
    run: Run
    """`zpipe sweep resume`."""

    @property
    def store(self) -> Store:
        return Store(self.folder.parent)

    def parent(self) -> Any:
        (parent,) = [run for run in self.store.runs() if "mlflow.parentRunId" not in run.data.tags]
        return parent

    def children(self) -> list[Any]:
        parent = self.parent().info.run_id
        return [run for run in self.store.runs() if run.data.tags.get("mlflow.parentRunId") == parent]


def ended(folder: Path) -> list[dict[str, Any]]:
    """The lines of the ledger that say how a point ended."""
    file = folder / "ledger.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return [line for line in lines if line["ending"] != "unfinished"]


def kill_within_a_point(process: subprocess.Popen[str], folder: Path, done: int) -> None:
    """kill -9 to zpipe and its workers once the point after `done` others has a checkpoint."""
    point = folder / str(done)
    wait_for(process, point / checkpoint_name(2) / "manifest.json", "{")
    workers = processes_mentioning(str(point))
    for worker in workers:
        worker.suspend()  # four steps would be over before the kill
    wait_for(process, point / "record.json", '"experiment_id": "')
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    for worker in workers:
        worker.kill()
    psutil.wait_procs(workers)


def wait_for(process: subprocess.Popen[str], file: Path, words: str) -> None:
    deadline = time.monotonic() + 600
    while not file.exists() or words not in file.read_text():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory, text_file: Path, empty_store: Path) -> Resumed:
    """Four points; the process is killed within the third; resumed from another folder."""
    cwd = put_store(empty_store, tmp_path_factory.mktemp("sweep"))
    folder = cwd / "sweep"
    process = start(
        cwd,
        "-m",
        *SMALL,
        "checkpoint=default",
        "checkpoint.save_steps=2",
        f"stage={','.join(STAGES)}",
        f"stage.reduce_bucket_size={','.join(BUCKETS)}",
        # Relative paths start where the sweep was started, also when it is resumed from elsewhere.
        f"data.path={os.path.relpath(text_file, cwd)}",
        "hydra.sweep.dir=sweep",
    )
    kill_within_a_point(process, folder, done=2)
    before = Store(cwd).runs()
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    return Resumed(folder, before, verb(elsewhere, "sweep", "resume", str(folder), folder=folder))


def test_the_kill_left_two_points_and_a_half(resumed: Resumed) -> None:
    assert [run.info.status for run in resumed.before].count("FINISHED") == 2
    assert [run.info.status for run in resumed.before].count("RUNNING") == 2  # the sweep's and the third's


def test_resuming_finishes_the_sweep(resumed: Resumed) -> None:
    assert resumed.run.exit_code == 0, resumed.run.explain()
    assert resumed.parent().info.status == "FINISHED"
    assert "4 of 4 points finished" in resumed.run.stdout


def test_four_children_and_none_twice(resumed: Resumed) -> None:
    children = resumed.children()
    settings = [(run.data.params["stage"], float(run.data.params["reduce_bucket_size"])) for run in children]
    assert sorted(settings) == sorted((stage, float(bucket)) for stage, bucket in POINTS)
    assert {run.info.status for run in children} == {"FINISHED"}


def test_points_that_were_done_are_not_run_again(resumed: Resumed) -> None:
    done_before = {run.info.run_id for run in resumed.before if run.info.status == "FINISHED"}
    assert done_before <= {run.info.run_id for run in resumed.children()}
    assert [line["folder"] for line in ended(resumed.folder)].count("0") == 1


def test_the_half_run_point_goes_on_from_its_checkpoint_in_its_mlflow_run(resumed: Resumed) -> None:
    point = str(resumed.folder / "2")
    (half,) = [run for run in resumed.before if run.data.tags.get("zpipe.run_dir") == point]
    (child,) = [run for run in resumed.children() if run.info.run_id == half.info.run_id]
    assert (child.info.status, child.data.tags["zpipe.attempts"]) == ("FINISHED", "2")
    assert read_start(RunFolder(resumed.folder / "2").numbered(2)).step == 2
    assert len(resumed.store.runs()) == 1 + 4


def test_each_child_is_called_by_what_it_differs_in(resumed: Resumed) -> None:
    names = [run.info.run_name for run in resumed.children()]
    assert len(set(names)) == 4
    assert "stage=2, reduce_bucket_size=5e8" in names


def test_the_ledger_and_the_points_agree(resumed: Resumed) -> None:
    points = json.loads((resumed.folder / "points.json").read_text())
    assert len(points) == 4
    assert {point["ending"] for point in points} == {"finished"}
    assert {point["mlflow_run_id"] for point in points} == {run.info.run_id for run in resumed.children()}
    assert all(point["summary"]["tokens_per_sec"] > 0 for point in points)


def test_the_bucket_reaches_deepspeed(resumed: Resumed) -> None:
    files = [resumed.folder / name / "ds_config.json" for name in ("0", "1", "2", "3")]
    sizes = [json.loads(file.read_text())["zero_optimization"]["reduce_bucket_size"] for file in files]
    assert sizes == [100_000, 500_000_000, 100_000, 500_000_000]


def test_each_point_has_a_line_with_its_bucket_and_figures(resumed: Resumed) -> None:
    stdout = resumed.run.stdout
    heading, *lines = stdout[stdout.rindex("  point") :].splitlines()
    assert heading.split()[1:3] == ["stage", "stage.reduce_bucket_size"]
    assert "tokens/s" in heading
    rows = [line.split() for line in lines[:4]]
    assert [(row[1], float(row[2])) for row in rows] == [(stage, float(bucket)) for stage, bucket in POINTS]


def test_the_report_is_in_mlflow(resumed: Resumed) -> None:
    names = resumed.store.artifacts(resumed.parent().info.run_id)
    pictures = {"sweep_pareto.png", "sweep_stage.reduce_bucket_size.png"}
    assert {"sweep_report.html", "points.json", *pictures} <= names
    assert resumed.parent().data.metrics["sweep/finished"] == 4


def test_resuming_again_runs_nothing(resumed: Resumed) -> None:
    lines = len(ended(resumed.folder))
    again = preloaded.verb(
        resumed.folder.parent, "sweep", "resume", str(resumed.folder), folder=resumed.folder
    )
    assert again.exit_code == 0, again.explain()
    assert len(ended(resumed.folder)) == lines
    assert len(resumed.store.runs()) == 5


def test_the_report_opens_in_a_browser(resumed: Resumed, browser: Any) -> None:
    """The pictures are inside the page: the browser has decoded each of them."""
    page = (resumed.folder / "sweep_report.html").as_uri()
    text_of(browser, page, "4 finished", "reduce_bucket_size", "Throughput against memory", "Pareto")
    widths = browser.execute_script("return [...document.images].map(image => image.naturalWidth)")
    assert len(widths) == 2
    assert min(widths) > 800
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    picture(browser, "sweep-report.png")


def test_a_new_sweep_into_its_folder_is_refused(resumed: Resumed) -> None:
    again = preloaded.verb(
        resumed.folder.parent, "-m", "stage=2,3", f"hydra.sweep.dir={resumed.folder}", folder=resumed.folder
    )
    assert again.exit_code == 2
    assert "zpipe sweep resume" in again.stderr


def test_a_failing_point_does_not_take_the_others_along(
    text_file: Path, tmp_path: Path, empty_store: Path
) -> None:
    """offload=cpu is refused at stage 2 and trains at stage 3; resuming tries the refused one if asked."""
    put_store(empty_store, tmp_path)
    overrides = ("stage=2,3", "offload=cpu", "train.max_steps=2", f"data.path={text_file}")
    run = preloaded.sweep(tmp_path, *SMALL, *overrides)
    assert run.exit_code == 0, run.explain()
    points = json.loads((run.folder / "points.json").read_text())
    assert [point["ending"] for point in points] == ["refused", "finished"]
    assert run.stderr.startswith("Refused: 1 of 2 points")
    assert "1 refused, and not tried again unless you ask" in run.stdout
    assert [run.info.status for run in Store(tmp_path).runs()] == ["FINISHED", "FINISHED"]
    preloaded.verb(tmp_path, "sweep", "resume", str(run.folder), folder=run.folder)
    assert [line["ending"] for line in ended(run.folder)] == ["refused", "finished"]
    again = preloaded.verb(tmp_path, "sweep", "resume", str(run.folder), "--refused", folder=run.folder)
    assert again.exit_code == 0
    assert [line["ending"] for line in ended(run.folder)] == ["refused", "finished", "refused"]


def test_a_sweep_without_a_point_that_can_run_is_not_started(tmp_path: Path) -> None:
    run = preloaded.sweep(tmp_path, *SMALL, "stage=1,2", "offload=cpu")
    assert run.exit_code == 2, run.explain()
    assert "Refused: 2 of 2 points" in run.stderr
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_ends_the_whole_sweep(text_file: Path, tmp_path: Path, empty_store: Path) -> None:
    folder = put_store(empty_store, tmp_path) / "sweep"
    overrides = (*SMALL, "stage=1,2", "train.max_steps=100000", f"data.path={text_file}")
    process = start(tmp_path, "-m", *overrides, f"hydra.sweep.dir={folder}")
    wait_for(process, RunFolder(folder / "0").attempt.events, '"event": "metrics"')
    process.send_signal(signal.SIGINT)
    run = finish(process, folder)
    assert run.exit_code == 130, run.explain()
    assert not (folder / "1").exists()
    assert [run.info.status for run in Store(tmp_path).runs()] == ["KILLED", "KILLED"]
    assert f"zpipe sweep resume {folder}" in run.stdout


@pytest.mark.parametrize(
    ("launcher", "lead"),
    [
        (["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"], "stage=choice(1,2)"),
        (["hydra/launcher=submitit_local"], "stage=choice(1,2)"),
        (
            ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=1"],
            "train.learning_rate=interval(1e-5,1e-2)",
        ),
    ],
    ids=["joblib", "submitit", "optuna"],
)
def test_hydras_launchers_and_sweepers_work_and_resume(
    launcher: list[str], lead: str, text_file: Path, tmp_path: Path, empty_store: Path
) -> None:
    put_store(empty_store, tmp_path)
    overrides = (*SMALL, *launcher, lead, "launcher=inprocess", "train.max_steps=2", f"data.path={text_file}")
    run = sweep(tmp_path, *overrides)
    assert run.exit_code == 0, run.explain()
    points = json.loads((run.folder / "points.json").read_text())
    assert [point["ending"] for point in points] == ["finished", "finished"]
    assert len(Store(tmp_path).runs()) == 3
    again = verb(tmp_path, "sweep", "resume", str(run.folder), folder=run.folder)
    assert again.exit_code == 0, again.explain()
    assert len(ended(run.folder)) == 2
    assert len(Store(tmp_path).runs()) == 3
