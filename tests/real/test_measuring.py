"""`auto.probes` on the CPU: short runs are measured, the fastest wins, and later plans know it."""

import json
import resource
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.process import (
    SMALL,
    Run,
    finish,
    processes_mentioning,
    start,
    verb,
    zpipe,
)
from zpipe.search.measured import FILE_NAME

pytestmark = pytest.mark.real

CHOSEN = (*SMALL, "stage=auto", "batch=auto", "batch.per_device_train_batch_size=2", "tracking=none")
"""With a fixed micro-batch the candidates are stages."""
PROBED = (*CHOSEN, "auto.probes=2")


GIB = 1024**3


def cache_of(cwd: Path) -> dict[str, str]:
    return {"HOME": str(cwd), "XDG_CACHE_HOME": str(cwd / "cache")}


def measurements(cwd: Path) -> list[dict[str, Any]]:
    file = cwd / "cache" / "zpipe" / FILE_NAME
    return list(json.loads(file.read_text())["measurements"]) if file.exists() else []


def plan_in(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "plan.json").read_text()))


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, text_file: Path) -> Run:
    """A run that measured two stages first."""
    cwd = tmp_path_factory.mktemp("measured")
    run = zpipe(cwd, *PROBED, f"data.path={text_file}", env=cache_of(cwd))
    assert run.exit_code == 0, run.explain()
    return run


def test_each_combination_is_a_run_of_its_own_that_keeps_only_its_logs(measured: Run) -> None:
    folders = sorted((measured.folder / "probes").iterdir())
    assert [folder.name for folder in folders] == ["1", "2"]
    plans = [plan_in(folder) for folder in folders]
    assert len({plan["experiment"]["stage"]["stage"] for plan in plans}) == 2
    for folder in folders:
        result = json.loads((folder / "result.json").read_text())
        assert (result["ending"], result["summary"]["steps"]) == ("finished", 6)
        assert not list(folder.glob("checkpoint-*"))
        assert not (folder / "model").exists()


def test_fastest_is_chosen_and_told_with_both_speeds(measured: Run) -> None:
    plan = plan_in(measured.folder)
    candidates = [plan["choice"]["chosen"], *plan["choice"]["runners_up"]]
    speeds = [each["measured_tokens_per_second"] for each in candidates[:2]]
    assert speeds[0] == max(speeds)
    assert all(each["tokens_per_second"] > 0 and each["measured_on"] for each in candidates[:2])
    fastest = max(measurements(measured.folder.parent), key=lambda each: float(each["tokens_per_second"]))
    assert plan["experiment"]["stage"]["stage"] == fastest["settings"]["stage.stage"]
    assert fastest["tokens_per_second"] == speeds[0]


def test_run_itself_is_trained_as_usual(measured: Run) -> None:
    assert measured.result["ending"] == "finished"
    assert measured.result["summary"]["steps"] == 4
    assert (measured.folder / "model").is_dir()


def test_terminal_tells_each_combination_and_its_speed(measured: Run) -> None:
    lines = measured.stderr.splitlines()
    plans = [plan_in(measured.folder / "probes" / number) for number in ("1", "2")]
    stages = [plan["experiment"]["stage"]["stage"] for plan in plans]
    announced = [line.partition(",")[0] for line in lines if line.startswith("probe") and "predicted" in line]
    assert announced == [f"probe {number} of 2: stage {stage}" for number, stage in enumerate(stages, 1)]
    assert any(line.startswith("auto: ") and "fastest of 2 that were measured" in line for line in lines)


def test_plan_and_run_afterwards_know_it_and_measure_nothing(measured: Run, text_file: Path) -> None:
    cwd = measured.folder.parent
    before = measurements(cwd)
    again = cwd / "again"
    arguments = (*PROBED, f"data.path={text_file}", "train.learning_rate=1e-4", f"hydra.run.dir={again}")
    planned = verb(cwd, "plan", *arguments, folder=again, env=cache_of(cwd))
    assert planned.exit_code == 0, planned.explain()
    chosen = plan_in(again)["choice"]
    assert chosen["to_measure"] == 0
    assert chosen["chosen"] == plan_in(measured.folder)["choice"]["chosen"]
    run = zpipe(cwd, *arguments, folder="again", env=cache_of(cwd))
    assert run.exit_code == 0, run.explain()
    assert "auto.measure=again measures anew" in run.stderr
    assert not (again / "probes").exists()
    assert measurements(cwd) == before


def test_value_is_explained_by_the_measurement(measured: Run, text_file: Path) -> None:
    cwd = measured.folder.parent
    arguments = ("plan", *CHOSEN, f"data.path={text_file}", "--explain", "stage.stage")
    shown = verb(cwd, *arguments, folder=cwd, env=cache_of(cwd))
    assert "auto: the fastest of 2 that were measured: " in shown.stdout


LARGE_LOSS = (
    "stage=0",
    "batch=auto",
    "batch.global_batch_size=2",
    "model.config.vocab_size=160000",
    "data.max_length=1024",
)
"""Logits of 0.6 GiB for each sequence: a micro-batch of 2 takes 2 GiB more than one of 1."""


def limited_memory() -> None:
    """Enough for a micro-batch of 1, and not for one of 2."""
    resource.setrlimit(resource.RLIMIT_DATA, (9 * GIB // 2, 9 * GIB // 2))


def test_combination_that_runs_out_of_memory_loses_and_is_remembered(tmp_path: Path, text_file: Path) -> None:
    folder = tmp_path / "run"
    small = [each for each in SMALL if not each.startswith(("batch.", "data."))]
    arguments = (*small, *LARGE_LOSS, "tracking=none", "train.max_steps=1", f"data.path={text_file}")
    probed = (*arguments, "auto.probes=2", f"hydra.run.dir={folder}")
    run = finish(start(tmp_path, *probed, before=limited_memory, env=cache_of(tmp_path)), folder)
    assert run.exit_code == 0, run.explain()
    plan = plan_in(folder)
    assert plan["ds_config"]["train_micro_batch_size_per_gpu"] == 1
    (failed,) = [each for each in plan["choice"]["runners_up"] if each["probe_failed"]]
    assert failed["differs"] == {"batch.per_device_train_batch_size": 2}
    assert [each["ran_out"] for each in measurements(tmp_path)].count(True) == 1
    shown = verb(tmp_path, "plan", *arguments, "--explain", "auto", folder=folder, env=cache_of(tmp_path))
    assert "batch.per_device_train_batch_size=2: failed on " in shown.stdout, shown.explain()


def test_stop_while_something_is_measured_leaves_nothing_running(tmp_path: Path, text_file: Path) -> None:
    folder = tmp_path / "run"
    endless = ("data.max_length=1024", "batch.gradient_accumulation_steps=500")
    arguments = (*PROBED, *endless, f"data.path={text_file}", f"hydra.run.dir={folder}")
    process = start(tmp_path, *arguments, env=cache_of(tmp_path))
    events = folder / "probes" / "1" / "attempt-1" / "events.jsonl"
    deadline = time.monotonic() + 120
    while not (events.exists() and '"train"' in events.read_text()) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    run = finish(process, folder)
    assert run.exit_code == 130, run.explain()
    assert "while combinations were measured" in run.stderr
    assert processes_mentioning(str(folder)) == []
    assert not list(folder.glob("attempt-*"))
    assert measurements(tmp_path) == []
