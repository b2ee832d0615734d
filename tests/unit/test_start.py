"""Whether a run starts in its folder, goes on there or is refused."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.plans import begin_attempt, plan_in, run_in
from zpipe.plans.plan import Plan
from zpipe.problems import Problem, Refusal
from zpipe.runfolder.folder import RunFolder
from zpipe.runfolder.outcome import Ending
from zpipe.running import start as start_module
from zpipe.running.start import Start, start_of, wait_for_workers


def refusals(plan: Plan) -> tuple[Problem, ...]:
    with pytest.raises(Refusal) as caught:
        start_of(plan)
    return caught.value.problems


def files_in(folder: Path) -> list[str]:
    """Every file and folder below, but the lock of the supervision."""
    paths = (str(path.relative_to(folder)) for path in folder.rglob("*") if path.name != ".supervised.lock")
    return sorted(paths)


def test_a_run_in_a_new_folder_is_its_first_attempt(tmp_path: Path) -> None:
    plan = plan_in(tmp_path / "run")
    assert start_of(plan) == Start(attempt=1)
    assert not (tmp_path / "run").exists()


def test_a_run_may_start_beside_files_that_it_does_not_write(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    assert start_of(plan_in(tmp_path)) == Start(attempt=1)


@pytest.mark.parametrize("name", ["plan.json", "model", "checkpoint-4", "attempt-1/notes"])
def test_files_of_others_are_refused_and_nothing_is_written(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    (folder / name).mkdir(parents=True)
    (problem,) = refusals(plan_in(folder))
    assert (problem.key, problem.value) == ("hydra.run.dir", str(folder))
    assert problem.fix == "leave hydra.run.dir out"
    assert files_in(folder)[-1] == name


@pytest.mark.parametrize("ending", [None, "failed", "interrupted", "preempted", "gpu_out_of_memory"])
def test_a_run_that_did_not_finish_has_another_attempt(ending: Ending | None, tmp_path: Path) -> None:
    run_in(tmp_path / "run", ending)
    assert start_of(plan_in(tmp_path / "run")) == Start(attempt=2)


def test_the_next_attempt_follows_the_last_one(tmp_path: Path) -> None:
    run_in(tmp_path / "run")
    for number in (2, 3, 10):
        begin_attempt(tmp_path / "run", number)
    assert start_of(plan_in(tmp_path / "run")).attempt == 11


def test_a_finished_run_has_nothing_left_to_do(tmp_path: Path) -> None:
    run_in(tmp_path / "run", "finished")
    finished = start_of(plan_in(tmp_path / "run")).finished
    assert finished is not None
    assert (finished.ending, finished.exit_code) == ("finished", 0)


def test_a_finished_run_goes_on_if_it_gets_more_steps(tmp_path: Path) -> None:
    run_in(tmp_path / "run", "finished")
    start = start_of(plan_in(tmp_path / "run", {"train.max_steps": 8}))
    assert start == Start(attempt=2, changes=("train.max_steps: 4 -> 8",))


def test_an_attempt_says_what_differs_from_the_one_before(tmp_path: Path) -> None:
    run_in(tmp_path / "run")
    start = start_of(plan_in(tmp_path / "run", {"checkpoint.save_steps": 7, "resume.trust": True}))
    assert start.changes == ("checkpoint.save_steps: 500 -> 7",)


@pytest.mark.parametrize("ending", [None, "finished"])
def test_resuming_can_be_forbidden(ending: Ending | None, tmp_path: Path) -> None:
    run_in(tmp_path / "run", ending)
    (problem,) = refusals(plan_in(tmp_path / "run", {"resume.checkpoint": "never"}))
    assert (problem.key, problem.value) == ("resume", "never")
    assert problem.reason == "this folder already holds a run"
    assert problem.fix == "resume=auto, or leave hydra.run.dir out"


def test_a_new_folder_needs_no_permission_to_resume(tmp_path: Path) -> None:
    assert start_of(plan_in(tmp_path / "run", {"resume.checkpoint": "never"})) == Start()


def test_a_moved_run_goes_on_only_if_it_is_trusted(tmp_path: Path) -> None:
    run_in(tmp_path / "old")
    (tmp_path / "old").rename(tmp_path / "new")
    (problem,) = refusals(plan_in(tmp_path / "new"))
    assert (problem.key, problem.fix) == ("hydra.run.dir", "resume.trust=true")
    assert str(tmp_path / "old") in problem.reason
    assert start_of(plan_in(tmp_path / "new", {"resume.trust": True})).attempt == 2


def test_a_run_that_another_process_supervises_is_refused(tmp_path: Path) -> None:
    run_in(tmp_path / "run")
    with RunFolder(tmp_path / "run").supervision():
        (problem,) = refusals(plan_in(tmp_path / "run"))
    assert problem.reason == "another zpipe is running this run"
    assert start_of(plan_in(tmp_path / "run")).attempt == 2


def test_everything_that_is_wrong_is_refused_at_once(tmp_path: Path) -> None:
    run_in(tmp_path / "old")
    (tmp_path / "old").rename(tmp_path / "new")
    plan = plan_in(tmp_path / "new", {"train.seed": 7, "data.max_length": 8})
    plan = plan.model_copy(update={"launch": plan.launch.model_copy(update={"world_size": 2})})
    before = files_in(tmp_path / "new")
    with RunFolder(tmp_path / "new").supervision():
        keys = [problem.key for problem in refusals(plan)]
    assert keys == [
        "data.max_length",
        "train.seed",
        "batch",  # twice as many sequences in one step
        "hydra.run.dir",  # moved
        "hydra.run.dir",  # supervised
    ]
    assert files_in(tmp_path / "new") == before


@pytest.mark.parametrize("name", ["plan.json", "attempt-1/result.json"])
def test_a_damaged_file_is_named(name: str, tmp_path: Path) -> None:
    run_in(tmp_path / "run", "finished")
    (tmp_path / "run" / name).write_text("{")
    (problem,) = refusals(plan_in(tmp_path / "run"))
    assert problem.value == str(tmp_path / "run" / name)


WORKER = "import sys, time; print(flush=True); time.sleep(60)"


@pytest.fixture
def worker(tmp_path: Path) -> Any:
    """A process that looks like a worker of the run in `tmp_path`."""
    argv = [sys.executable, "-c", WORKER, "zpipe.train", str(tmp_path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_an_attempt_waits_for_the_workers_of_the_one_before(worker: Any, tmp_path: Path) -> None:
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        worker.kill()

    wait_for_workers(tmp_path, say)
    assert said == [f"waiting for workers of the attempt before to end: {worker.pid}"]


def test_workers_that_do_not_end_are_named(
    worker: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start_module, "WAIT_FOR_WORKERS_SECONDS", 0.0)
    with pytest.raises(Refusal, match=f"still running: {worker.pid}"):
        wait_for_workers(tmp_path, lambda text: None)


def test_workers_of_another_run_are_not_waited_for(worker: Any, tmp_path: Path) -> None:
    wait_for_workers(tmp_path / "other", lambda text: pytest.fail(text))
