"""What the supervisor observes: samples, silence, failed ranks, signals, and the process tree."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.events import event
from tests.support.recording import wait_until
from zpipe.launchers.logs import rank_lines, tail
from zpipe.launchers.rank_exits import parse_rank_exits
from zpipe.machine.samples import Sample, Sampler, is_worth_writing, read_samples
from zpipe.runfolder import disk_reserve
from zpipe.runfolder.folder import Attempt
from zpipe.supervise.silence import SilenceWatch
from zpipe.supervise.stops import Stopped, in_batch_job, signals_noted
from zpipe.supervise.tree import ProcessTree

GIB = 2**30

ELASTIC = """\
E1124 10:12:01.5 multiprocessing/api.py:1002] failed (exitcode: -9) local_rank: 1 (pid: 22) of binary: python
============================================================
zpipe.train FAILED
------------------------------------------------------------
Failures:
[1]:
  time      : 2026-11-24_10:12:01
  host      : a.b
  rank      : 0 (local_rank: 0)
  exitcode  : -15 (pid: 21)
  error_file: <N/A>
  traceback : Signal 15 (SIGTERM) received by PID 21
------------------------------------------------------------
Root Cause (first observed failure):
[0]:
  time      : 2026-11-24_10:12:01
  host      : a.b
  rank      : 1 (local_rank: 1)
  exitcode  : -9 (pid: 22)
  error_file: <N/A>
  traceback : Signal 9 (SIGKILL) received by PID 22
============================================================
"""


def test_the_root_cause_in_the_launchers_table_comes_first() -> None:
    exits = parse_rank_exits(ELASTIC)
    assert [(each.rank, each.exit_code, each.signal_name) for each in exits] == [
        (1, -9, "SIGKILL"),
        (0, -15, "SIGTERM"),
    ]
    assert [each.rank for each in parse_rank_exits(ELASTIC, first_rank=6)] == [7, 6]


def test_failures_at_different_times_are_in_order_of_time() -> None:
    earlier = ELASTIC.replace("_10:12:01", "_10:12:00", 1)
    exits = parse_rank_exits(earlier)
    assert [each.rank for each in exits] == [0, 1]
    assert exits[1].time - exits[0].time == 1


def test_a_log_without_a_table_has_no_rank_exits() -> None:
    assert parse_rank_exits("no table") == []


def test_samples_are_kept_and_written(tmp_path: Path) -> None:
    sampler = Sampler(Attempt(tmp_path), lambda: 5 * GIB, with_gpus=False)
    sampler.tick()
    sampler.tick()
    assert len(sampler.kept) == 1, "one per second"
    assert read_samples(Attempt(tmp_path)) == list(sampler.kept)
    with Attempt(tmp_path).samples.open("a") as file:
        file.write('{"time": 1.0, "host_us')
    assert read_samples(Attempt(tmp_path)) == list(sampler.kept), "an incomplete line is left out"


@pytest.mark.parametrize(
    ("change", "written"),
    [
        ({"time": 101.0}, False),
        ({"time": 160.0}, True),
        ({"host_used": 5 * GIB + GIB // 20}, False),
        ({"host_used": 5 * GIB + GIB // 5}, True),
        ({"oom_kills": 1}, True),
        ({"disk_free": 90 * GIB}, True),
        ({"gpu_used": (40 * GIB,)}, True),
    ],
)
def test_a_sample_is_written_after_a_change_or_a_minute(change: dict[str, Any], written: bool) -> None:
    before = Sample(100.0, 5 * GIB, 10 * GIB, 4 * GIB, 0, 100 * GIB, (20 * GIB,), (80 * GIB,))
    assert is_worth_writing(replace(before, **change), before) is written


def test_silence_counts_only_in_phases_with_heartbeats() -> None:
    now = 0.0
    watch = SilenceWatch(10.0, clock=lambda: now)
    for phase, seconds, too_long in (
        ("operators", 10_000, False),
        ("model", 10_000, False),
        ("train", 10_000, False),
        ("evaluate", 9, False),
        ("evaluate", 11, True),
        ("save", 11, True),
        ("done", 10_000, False),
    ):
        watch.update(event("phase", name=phase))
        now += seconds
        assert watch.is_too_long is too_long, phase


def test_in_training_silence_counts_from_the_first_step() -> None:
    now = 0.0
    watch = SilenceWatch(10.0, clock=lambda: now)
    watch.update(event("phase", name="train"))
    watch.update(event("notice", text="the engine starts"))
    now += 10_000
    assert not watch.is_too_long
    for step in (0, 0, 1):
        watch.update(event("step", step=step))
        now += 9
        assert not watch.is_too_long
    now += 1
    assert watch.is_too_long


def test_without_a_timeout_there_is_no_hang() -> None:
    now = 0.0
    watch = SilenceWatch(None, clock=lambda: now)
    watch.update(event("phase", name="train"))
    now = 1e9
    assert not watch.is_too_long


def test_signals_are_noted_and_the_old_handlers_are_restored() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with signals_noted() as caught:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
    assert (caught.number, caught.count) == (signal.SIGTERM, 2)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("handler", "noted"), [(signal.SIG_DFL, signal.SIGHUP), (signal.SIG_IGN, None)], ids=["shell", "nohup"]
)
def test_sighup_is_noted_unless_it_is_ignored(handler: Any, noted: int | None) -> None:
    before = signal.signal(signal.SIGHUP, handler)
    try:
        with signals_noted() as caught:
            os.kill(os.getpid(), signal.SIGHUP)
        assert caught.number == noted
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_can_interrupt_this_thread() -> None:
    with signals_noted(interrupt_at=1) as caught, pytest.raises(Stopped):
        os.kill(os.getpid(), signal.SIGUSR1)
    assert caught.number == signal.SIGUSR1


def test_a_signal_is_noted_in_every_block_and_interrupts_the_innermost() -> None:
    with signals_noted(interrupt_at=1) as outer, signals_noted() as middle:
        with signals_noted(interrupt_at=2) as inner, pytest.raises(Stopped) as stop:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGUSR2)
        os.kill(os.getpid(), signal.SIGINT)
        assert (inner.count, middle.count, outer.count) == (2, 3, 3)
    assert (stop.value.number, stop.value.exit_code) == (signal.SIGUSR2, 143)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGUSR2", "SIGHUP", "SIGINT"])
def test_a_signal_to_any_command_ends_it_with_a_documented_code(name: str) -> None:
    code = f"""
import os, signal, sys
from zpipe import __main__
from zpipe.cli import main
signal.signal(signal.SIGHUP, signal.SIG_DFL)
main.VERBS["runs"] = "slow"
main.run_verb = lambda name, arguments: os.kill(os.getpid(), signal.{name})
sys.argv = ["zpipe", "runs"]
__main__.run()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130 if name == "SIGINT" else 143, "")


def test_a_batch_job_is_detected_by_its_variables() -> None:
    assert in_batch_job({"SLURM_JOB_ID": "7"})
    assert not in_batch_job({"SLURM_JOB_ID": "", "HOME": "/"})


def test_every_process_of_a_tree_is_ended(tmp_path: Path) -> None:
    """A launcher that ignores SIGTERM, with a child in its own session."""
    script = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = [sys.executable, '-c', 'import time; time.sleep(100)']\n"
        "print(subprocess.Popen(child, start_new_session=True).pid, flush=True)\n"
        "time.sleep(100)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout is not None
        child = psutil.Process(int(launcher.stdout.readline()))
        tree = ProcessTree(launcher.pid)
        deadline = time.monotonic() + 0.5
        tree.end(patience=lambda: time.monotonic() < deadline)
        assert launcher.wait() == -signal.SIGKILL
        assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


PARENT = """
import subprocess, sys, time
from zpipe.machine.guard import guarded
child = "import os, signal, subprocess; subprocess.Popen(['sleep', '100'], start_new_session=True)"
child += "; print(os.getpid(), flush=True); os.kill(os.getpid(), signal.SIGSTOP)"
with guarded("ZPIPE_LAUNCH_ID") as mark:
    subprocess.Popen([sys.executable, "-c", child], env=mark, start_new_session=True)
    time.sleep(100 if sys.argv[1] == "killed" else 1)
"""


def processes_with(variable: str) -> list[int]:
    """Processes that run with this variable."""
    name, _, value = variable.partition("=")
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(name) == value:
                found.append(process.pid)
    return found


@pytest.mark.parametrize("end", ["killed", "ended"])
def test_only_a_killed_parent_takes_everything_with_it(end: str) -> None:
    """A stopped process, which watches nobody, and its child in another session."""
    with subprocess.Popen([sys.executable, "-c", PARENT, end], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        variable = f"ZPIPE_LAUNCH_ID={child.environ()['ZPIPE_LAUNCH_ID']}"
        if end == "killed":
            wait_until(lambda: len(processes_with(variable)) == 2 and child.status() == "stopped")
            parent.kill()
            parent.wait()
            wait_until(lambda: not processes_with(variable))
        else:
            parent.wait()
            left = processes_with(variable)
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            assert len(left) == 2


def test_last_lines_of_a_rank(tmp_path: Path) -> None:
    folder = Attempt(tmp_path).logs / "none_1" / "attempt_0" / "1"
    folder.mkdir(parents=True)
    (folder / "stderr.log").write_text("")
    (folder / "stdout.log").write_text("one\n\ntwo  \n")
    assert rank_lines(Attempt(tmp_path), 1, 5) == ["one", "two"]
    assert rank_lines(Attempt(tmp_path), 0, 5) == []
    (folder / "stderr.log").write_text("x" * 200_000 + "\nlast\n")
    assert tail(folder / "stderr.log", 1) == ["last"]


def test_the_disk_reserve_can_be_released_twice(tmp_path: Path) -> None:
    disk_reserve.take(Attempt(tmp_path))
    (file,) = tmp_path.iterdir()
    assert file.stat().st_blocks * 512 >= 1 << 17
    disk_reserve.release(Attempt(tmp_path))
    disk_reserve.release(Attempt(tmp_path))
    assert list(tmp_path.iterdir()) == []
