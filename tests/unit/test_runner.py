"""One run from its plan to its outcome, without workers: what remains when it ends early."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.plans import make_plan
from tests.support.recording import phase, write_events
from zpipe.machine.hardware import Hardware
from zpipe.plans.plan import Plan
from zpipe.problems import Problem
from zpipe.runfolder.folder import RunFolder
from zpipe.runfolder.outcome import Outcome, read_outcome, write_outcome
from zpipe.runfolder.swap_folder import create_swap_folder
from zpipe.running import runner
from zpipe.running.recover import conclude_if_abandoned

HARDWARE = Hardware(gpus=(), cores=2, memory=1 << 34)


def nvme_plan(tmp_path: Path) -> Plan:
    offload: dict[str, Any] = {"offload.offload_optimizer.device": "nvme", "stage.stage": 3}
    return make_plan(tmp_path / "run", experiment=offload, swap_dir=str(tmp_path / "run" / "swap"))


def unclaimed(plan: Plan) -> Plan:
    """The plan of a folder that was not started yet."""
    for name in ("plan.json", "ds_config.json", "config.yaml"):
        (Path(plan.run_dir) / name).unlink()
    return plan


def test_what_this_machine_lacks_leaves_no_swap_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = unclaimed(nvme_plan(tmp_path))

    def lacking(plan: Plan, say: object) -> list[Problem]:
        create_swap_folder(plan)
        return [Problem("libaio", "not found", "needed")]

    monkeypatch.setattr(runner, "missing_requirements", lacking)
    assert runner.run_plan(plan, HARDWARE).exit_code == 3
    assert not (tmp_path / "run" / "swap").exists()


@pytest.mark.parametrize(
    ("number", "ending", "code"),
    [
        (signal.SIGINT, "interrupted", 130),
        (signal.SIGTERM, "terminated", 143),
        (signal.SIGUSR2, "preempted", 143),
    ],
)
def test_a_signal_before_the_workers_start_is_an_ending(
    number: int, ending: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    plan = unclaimed(nvme_plan(tmp_path))

    def slow(plan: Plan, say: object) -> list[Problem]:
        create_swap_folder(plan)
        os.kill(os.getpid(), number)
        return []

    monkeypatch.setattr(runner, "missing_requirements", slow)
    outcome = runner.run_plan(plan, HARDWARE)
    assert (outcome.ending, outcome.exit_code) == (ending, code)
    assert read_outcome(RunFolder(tmp_path / "run")) == outcome
    assert not (tmp_path / "run" / "swap").exists()
    assert not RunFolder(tmp_path / "run").attempt.disk_reserve.exists()


def test_what_a_kill_after_the_result_left_is_removed_later(tmp_path: Path) -> None:
    plan = nvme_plan(tmp_path)
    write_events(plan, phase("train"))
    create_swap_folder(plan)
    folder = RunFolder(tmp_path / "run")
    folder.attempt.rendezvous.touch()
    outcome = Outcome(ending="finished", run_dir=plan.run_dir)
    write_outcome(outcome)
    conclude_if_abandoned(folder.path)
    assert read_outcome(folder) == outcome
    assert not (tmp_path / "run" / "swap").exists()
    assert folder.attempt.leftovers() == []
