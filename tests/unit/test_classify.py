"""Each ending follows from the evidence for it, and only from that."""

import math
import signal
from dataclasses import replace
from typing import Any

import pytest

from zpipe.diagnose.classify import classify
from zpipe.diagnose.evidence import Evidence, RankError, Silence
from zpipe.launchers.rank_exits import RankExit
from zpipe.machine.samples import Sample
from zpipe.problems import Problem
from zpipe.runfolder.events import Refused
from zpipe.runfolder.outcome import EXIT_OF, Outcome
from zpipe.runfolder.progress import RunProgress

GIB = 2**30


def progress(phase: str = "train", loss: float | None = None, **more: Any) -> RunProgress:
    values = {} if loss is None else {"loss": loss}
    return RunProgress(phase=phase, step=7, values=values, **more)


def samples(share: float = 0.5, kills: int = 0, disk_free: int = GIB) -> tuple[Sample, ...]:
    """Ten seconds at this share of the memory limit, with this many OOM kills in the last one."""
    used = int(share * 10 * GIB)
    return tuple(
        Sample(float(second), used, 10 * GIB, used, kills if second == 9 else 0, disk_free)
        for second in range(10)
    )


def error(type_: str = "ValueError", message: str = "no", rank: int = 0, **more: Any) -> RankError:
    return RankError(rank, type_, message, **more)


def killed(number: int = signal.SIGKILL, rank: int = 1, time: float = 100.0) -> RankExit:
    return RankExit(rank, -number, time)


OPERATOR = "cpu_adam could not be built: Error building extension\n[1/3] c++ -c x\nadam.cpp:3: error: no\n"
PEER = error(
    "RuntimeError", "[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:1", time=99
)
BY_EVIDENCE: list[tuple[str, int | None, Evidence]] = [
    ("finished", None, Evidence(progress("done"), returncode=0)),
    ("finished", None, Evidence(progress("done"), returncode=0, stopped_by=signal.SIGTERM)),
    ("finished", None, Evidence(progress("done"), returncode=None)),
    ("finished", None, Evidence(progress("done"), returncode=1, rank_exits=(killed(signal.SIGABRT),))),
    ("rank_died", 1, Evidence(progress("done"), returncode=1, rank_exits=(killed(signal.SIGKILL),))),
    ("rank_died", 1, Evidence(progress("save"), returncode=1, rank_exits=(killed(signal.SIGABRT),))),
    ("rank_died", None, Evidence(progress(), returncode=0)),
    (
        "refused",
        None,
        Evidence(progress("data", refused=Refused.of((Problem("data.path", "", "empty"),))), returncode=1),
    ),
    ("interrupted", None, Evidence(progress(), returncode=1, stopped_by=signal.SIGINT, in_batch_job=True)),
    ("terminated", None, Evidence(progress(), returncode=1, stopped_by=signal.SIGTERM)),
    ("preempted", None, Evidence(progress(), returncode=1, stopped_by=signal.SIGTERM, in_batch_job=True)),
    ("terminated", None, Evidence(progress(), returncode=1, stopped_by=signal.SIGHUP)),
    (
        "hang",
        1,
        Evidence(
            progress(),
            returncode=1,
            rank_exits=(killed(signal.SIGABRT),),
            lines={1: ("[rank1]: Watchdog caught collective operation timeout: WorkNCCL", "x")},
        ),
    ),
    (
        "gpu_out_of_memory",
        0,
        Evidence(
            progress(), returncode=1, errors=(error("DistBackendError", "Failed to CUDA calloc 6 bytes"),)
        ),
    ),
    ("preempted", None, Evidence(progress(), returncode=1, stopped_by=signal.SIGUSR1)),
    ("preempted", None, Evidence(progress(), returncode=1, stopped_by=signal.SIGUSR2)),
    ("preempted", None, Evidence(progress(), returncode=-signal.SIGUSR2)),
    ("rank_died", None, Evidence(progress(), returncode=-signal.SIGKILL, samples=samples())),
    ("host_out_of_memory", None, Evidence(progress(), returncode=-signal.SIGKILL, samples=samples(kills=1))),
    ("terminated", None, Evidence(progress(), returncode=-signal.SIGKILL, stopped_by=signal.SIGTERM)),
    ("failed", None, Evidence(progress(), returncode=1, samples=samples(disk_free=0), folder_is_gone=True)),
    ("preempted", None, Evidence(progress(), returncode=1, rank_exits=(killed(signal.SIGUSR1),))),
    ("terminated", None, Evidence(progress(), returncode=None)),
    ("terminated", None, Evidence(progress(), returncode=None, rank_exits=(killed(),), samples=samples())),
    ("hang", 1, Evidence(progress(), returncode=-9, silence=Silence(6.0, {0: "sleeping", 1: "stopped"}))),
    ("hang", None, Evidence(progress(), returncode=-9, silence=Silence(6.0, {0: "sleeping", 1: "sleeping"}))),
    (
        "hang",
        0,
        Evidence(progress(), returncode=1, errors=(error("RuntimeError", "Timed out waiting 1800000ms"),)),
    ),
    (
        "operator_build",
        0,
        Evidence(progress(), returncode=1, errors=(error("OperatorBuildError", OPERATOR),)),
    ),
    ("nonfinite_loss", None, Evidence(progress(), returncode=1, errors=(error("NonFiniteLossError"),))),
    ("loss_scale_stuck", None, Evidence(progress(), returncode=1, errors=(error("LossScaleStuckError"),))),
    ("nothing_learned", None, Evidence(progress(), returncode=1, errors=(error("NothingLearnedError"),))),
    (
        "loss_scale_stuck",
        None,
        Evidence(
            progress(loss=2.0),
            returncode=1,
            errors=(error("Exception", "Current loss scale already at minimum"),),
        ),
    ),
    (
        "nonfinite_loss",
        None,
        Evidence(progress(loss=math.nan), returncode=1, errors=(error("LossScaleStuckError"),)),
    ),
    (
        "gpu_out_of_memory",
        1,
        Evidence(
            progress(),
            returncode=1,
            errors=(
                PEER,
                error("OutOfMemoryError", "CUDA out of memory. Tried to allocate 2 GiB", 1, time=99.5),
            ),
        ),
    ),
    (
        "host_out_of_memory",
        0,
        Evidence(
            progress(),
            returncode=1,
            errors=(error("AcceleratorError", "CUDA error: out of memory", traceback="x.pin_memory()\n"),),
        ),
    ),
    ("host_out_of_memory", 0, Evidence(progress(), returncode=1, errors=(error("MemoryError", ""),))),
    (
        "host_out_of_memory",
        0,
        Evidence(
            progress(),
            returncode=1,
            errors=(error("RuntimeError", "DefaultCPUAllocator: can't allocate memory"),),
        ),
    ),
    (
        "host_out_of_memory",
        1,
        Evidence(progress(), returncode=1, rank_exits=(killed(),), samples=samples(kills=1)),
    ),
    (
        "host_out_of_memory",
        1,
        Evidence(progress(), returncode=1, rank_exits=(killed(),), samples=samples(0.97)),
    ),
    (
        "host_out_of_memory",
        0,
        Evidence(
            progress(),
            returncode=1,
            errors=(error("RuntimeError", "DataLoader worker (pid 7) is killed by signal: Killed."),),
            samples=samples(kills=1),
        ),
    ),
    (
        "host_out_of_memory",
        1,
        Evidence(
            progress(),
            returncode=1,
            rank_exits=(killed(signal.SIGABRT),),
            lines={1: ("terminate called after throwing an instance of 'std::bad_alloc'",)},
        ),
    ),
    ("rank_died", 1, Evidence(progress(), returncode=1, rank_exits=(killed(),), samples=samples())),
    (
        "rank_died",
        1,
        Evidence(progress(), returncode=1, rank_exits=(killed(signal.SIGSEGV),), samples=samples(0.99)),
    ),
    (
        "rank_died",
        1,
        Evidence(progress(), returncode=1, rank_exits=(killed(),), errors=(PEER,), samples=samples()),
    ),
    (
        "failed",
        0,
        Evidence(
            progress(),
            returncode=1,
            rank_exits=(killed(time=130),),
            errors=(error(time=99),),
            samples=samples(),
        ),
    ),
    (
        "disk_full",
        0,
        Evidence(
            progress(), returncode=1, errors=(error("OSError", "[Errno 28] No space left on device: 'x'"),)
        ),
    ),
    ("disk_full", None, Evidence(progress(), returncode=1, samples=samples(disk_free=1000))),
    (
        "disk_full",
        None,
        Evidence(progress(), returncode=1, launcher_lines=("OSError: [Errno 122] Disk quota exceeded",)),
    ),
    (
        "failed",
        1,
        Evidence(progress(), returncode=1, errors=(PEER, error(rank=1, time=99.5)), samples=samples()),
    ),
    (
        "failed",
        0,
        Evidence(
            progress(), returncode=1, rank_exits=(RankExit(0, 1, 100.0),), lines={0: ("ImportError: x",)}
        ),
    ),
    (
        "failed",
        1,
        Evidence(
            progress(), returncode=1, rank_exits=(RankExit(1, 3, 100.0), killed(signal.SIGTERM, rank=0))
        ),
    ),
    ("failed", None, Evidence(progress(""), returncode=2, launcher_lines=("torchrun: error: x",))),
    ("failed", None, Evidence(RunProgress(), returncode=2)),
]


@pytest.mark.parametrize(("ending", "rank", "evidence"), BY_EVIDENCE)
def test_the_ending_follows_from_the_evidence(ending: str, rank: int | None, evidence: Evidence) -> None:
    verdict = classify(evidence)
    assert (verdict.ending, verdict.rank) == (ending, rank)
    assert "\n" not in verdict.reason
    assert verdict.reason or ending == "finished"


def test_the_table_has_every_ending_of_a_started_run() -> None:
    assert {ending for ending, _, _ in BY_EVIDENCE} == set(EXIT_OF) - {"environment", "submitted"}


def test_the_reason_names_signal_phase_and_last_line_of_a_killed_rank() -> None:
    evidence = Evidence(progress(), 1, rank_exits=(killed(signal.SIGSEGV),), lines={1: ("one", "the last")})
    reason = "rank 1 was killed by SIGSEGV in phase train after step 7; last line of its log: the last"
    assert classify(evidence).reason == reason


def test_an_error_line_includes_the_line_after_a_colon() -> None:
    announced = error(
        "ValidationError", "Class validation error:\n    hidden size (64) is not a multiple of 3\n  more"
    )
    assert (
        announced.line == "ValidationError: Class validation error: hidden size (64) is not a multiple of 3"
    )
    assert error(message="first\nsecond").line == "ValueError: first"
    assert error(message="").line == "ValueError: "


def test_the_reason_of_a_failed_build_is_the_first_compiler_error() -> None:
    evidence = Evidence(progress(), 1, errors=(error("OperatorBuildError", OPERATOR),))
    assert classify(evidence).reason == "cpu_adam could not be built: adam.cpp:3: error: no"


def test_exit_codes_and_mlflow_statuses() -> None:
    codes = {ending: int(code) for ending, code in EXIT_OF.items()}
    assert codes["gpu_out_of_memory"] == 10
    assert codes["operator_build"] == 17
    assert codes["preempted"] == codes["terminated"] == 143
    by_code = [code for ending, code in codes.items() if ending not in ("preempted", "submitted")]
    assert len(by_code) == len(set(by_code))
    statuses = {ending: Outcome(ending=ending, run_dir="/r").mlflow_status for ending in EXIT_OF}
    assert {ending for ending, status in statuses.items() if status == "FINISHED"} == {"finished"}
    stopped = {ending for ending, status in statuses.items() if status == "KILLED"}
    assert stopped == {"preempted", "interrupted", "terminated"}


def test_tags_leave_out_what_is_unknown() -> None:
    outcome = Outcome(ending="rank_died", reason="why", failed_rank=0, run_dir="/r")
    assert outcome.tags == {
        "zpipe.ending": "rank_died",
        "zpipe.exit_code": "15",
        "zpipe.reason": "why",
        "zpipe.failed_rank": "0",
    }
    finished = Outcome(ending="finished", run_dir="/r").tags
    assert finished == {"zpipe.ending": "finished", "zpipe.exit_code": "0"}


def test_what_ended_a_run_without_its_ranks_is_named() -> None:
    killed = Evidence(progress(), returncode=-signal.SIGKILL)
    assert "the launcher that watches the ranks was killed by SIGKILL" in classify(killed).reason
    assert "run folder was deleted" in classify(replace(killed, folder_is_gone=True)).reason
