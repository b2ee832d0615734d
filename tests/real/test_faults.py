"""Real failures: exit code, MLflow, result.json and post-mortem agree, and no process is left.

Every fault is real. Those that a rank must cause itself are planted by tests/support/faults.
"""

import json
import resource
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fault_runs import FaultRuns, expect
from tests.support.limits import memory_group, tmpfs
from tests.support.process import (
    fp16_on_cpu,
    processes_mentioning,
    start,
    verb,
    with_fault,
    worker_of,
)
from tests.support.store import Store
from zpipe.runfolder.folder import RunFolder

pytestmark = pytest.mark.real

GIB = 2**30


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, text_file: Path) -> FaultRuns:
    return FaultRuns(tmp_path_factory.mktemp("faults"), text_file)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of the run folder; whatever a failed test left running is ended."""
    name = request.node.name.replace("[", "-").rstrip("]")
    yield name
    for process in processes_mentioning(f"/{name}"):
        process.kill()


def test_a_python_error_in_one_of_two_ranks(desk: FaultRuns, name: str) -> None:
    process = desk.start(name, "launcher.nproc_per_node=2", env=with_fault("raise", rank=1, step=3))
    run = desk.end_of(name, process)
    text = expect(desk, run, "failed", 4, rank=1)
    assert run.result["reason"] == "rank 1: ValueError: a planted fault"
    assert "KINDS[kind]()" in text


def test_sigkill_of_a_rank(desk: FaultRuns, name: str) -> None:
    process = desk.started(name, "launcher.nproc_per_node=2")
    worker_of(desk.cwd / name, rank=1).kill()
    run = desk.end_of(name, process)
    text = expect(desk, run, "rank_died", 15, rank=1)
    assert "gradient_checkpointing" not in text, "saving memory is no advice while memory is free"
    assert "rank 1 was killed by SIGKILL in phase train after step" in run.result["reason"]
    assert "rank 1: SIGKILL" in text


def test_sigkill_of_zpipe_itself(desk: FaultRuns, name: str) -> None:
    folder = desk.cwd / name
    process = desk.started(name)
    while desk.recorded(folder) is None:
        time.sleep(0.2)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 20
    while processes_mentioning(str(folder)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert processes_mentioning(str(folder)) == []
    assert desk.recorded(folder).info.status == "RUNNING"

    closing = verb(desk.cwd, "record", str(folder), folder=folder)
    assert closing.exit_code == 0, closing.explain()
    recorded = desk.recorded(folder)
    assert recorded.info.status == "KILLED"
    assert (recorded.data.tags["zpipe.ending"], recorded.data.tags["zpipe.exit_code"]) == (
        "terminated",
        "143",
    )
    attempt = RunFolder(folder).attempt
    result = json.loads(attempt.result.read_text())
    assert result["reason"].startswith("zpipe itself was killed in phase train after step")
    text = attempt.postmortem.read_text()
    assert text.startswith("# Post-mortem: terminated\n")
    assert "postmortem.md" in Store(desk.cwd).artifacts(recorded.info.run_id)


def test_sigstop_of_a_rank(desk: FaultRuns, name: str) -> None:
    process = desk.started(name, "launcher.nproc_per_node=2", "launcher.hang_timeout_s=6")
    worker_of(desk.cwd / name, rank=1).send_signal(signal.SIGSTOP)
    began = time.monotonic()
    run = desk.end_of(name, process)
    text = expect(desk, run, "hang", 14, rank=1, suggests="launcher.hang_timeout_s=24")
    assert time.monotonic() - began < 60
    assert "no heartbeat for 6 s in phase train" in run.result["reason"]
    assert "rank 1: stopped" in text
    stacks = text.partition("Last lines of rank 0")[2]
    assert "Stack (most recent call first)" in stacks, "rank 0 says where it waits"


@pytest.mark.parametrize(
    ("number", "ranks", "ending", "code"),
    [(signal.SIGINT, 1, "interrupted", 130), (signal.SIGTERM, 2, "terminated", 143)],
)
def test_a_signal_to_zpipe(
    desk: FaultRuns, name: str, number: signal.Signals, ranks: int, ending: str, code: int
) -> None:
    process = desk.started(name, f"launcher.nproc_per_node={ranks}", env={"SLURM_JOB_ID": ""})
    process.send_signal(number)
    expect(desk, desk.end_of(name, process), ending, code)


def test_preemption_without_a_worker_process(desk: FaultRuns, name: str) -> None:
    """SIGUSR1 is what Slurm's --signal sends ahead of the end."""
    process = desk.started(name, "launcher=inprocess")
    process.send_signal(signal.SIGUSR1)
    run = desk.end_of(name, process)
    expect(desk, run, "preempted", 143)
    assert "SIGUSR1" in run.result["reason"]


def test_a_rank_that_the_kernel_kills_for_its_memory(desk: FaultRuns, name: str) -> None:
    with memory_group(5 * GIB // 2) as enter:
        process = desk.start(name, before=enter or limited_memory, env=with_fault("hoard", rank=0, step=2))
        run = desk.end_of(name, process)
    text = expect(desk, run, "host_out_of_memory", 11, rank=0, suggests="train.gradient_checkpointing=true")
    if enter is not None:
        assert "rank 0 was killed in phase train after step" in run.result["reason"]
        assert "of 2.50 GiB of host memory" in run.result["reason"]
        assert "rank 0: SIGKILL" in text
    assert "host memory" in text.partition("## Memory and disk")[2]


def test_a_rank_that_is_refused_memory(desk: FaultRuns, name: str) -> None:
    process = desk.start(name, before=limited_memory, env=with_fault("hoard", rank=0, step=2))
    run = desk.end_of(name, process)
    expect(desk, run, "host_out_of_memory", 11, rank=0)
    assert "MemoryError" in run.result["reason"]


def limited_memory() -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (4 * GIB, 4 * GIB))


def test_a_loss_that_is_not_a_number(desk: FaultRuns, name: str) -> None:
    """A learning rate beyond reason; at stage 0 nothing keeps DeepSpeed from applying NaNs."""
    absurd = ("stage=0", "train.learning_rate=1e30", "precision.max_nonfinite_steps=5")
    run = desk.end_of(name, desk.start(name, *absurd))
    expect(desk, run, "nonfinite_loss", 12, suggests="train.learning_rate=1e+29")
    assert "the loss has been nan for" in run.result["reason"]
    recorded = desk.recorded(run.folder)
    client = Store(desk.cwd).client
    assert any(value != value for _, value in Store(desk.cwd).series(recorded.info.run_id, "loss"))
    table = json.loads(
        Path(client.download_artifacts(recorded.info.run_id, "precision_events.json")).read_text()
    )
    assert "loss not finite" in [row[1] for row in table["data"]]


def test_gradients_that_are_not_numbers(desk: FaultRuns, name: str) -> None:
    """From stage 1 on DeepSpeed skips such steps, one after the other."""
    absurd = ("stage=1", "precision=bf16", "train.learning_rate=1e30", "precision.max_nonfinite_steps=5")
    run = desk.end_of(name, desk.start(name, *absurd, "train.logging_steps=1000"))
    expect(desk, run, "nonfinite_loss", 12, suggests="train.learning_rate=1e+29")
    assert "5 steps in a row were skipped" in run.result["reason"]


def test_a_loss_scale_that_cannot_recover(desk: FaultRuns, name: str) -> None:
    stuck = ("precision=fp16", "precision.fp16.initial_scale_power=30", "precision.fp16.min_loss_scale=1e9")
    run = desk.end_of(name, desk.start(name, *stuck, "precision.fp16.hysteresis=1", env=fp16_on_cpu()))
    expect(desk, run, "loss_scale_stuck", 13, suggests="precision=bf16")
    assert "10 steps in a row overflowed at the lowest loss scale, 1e+09" in run.result["reason"]
    overflows = [event for event in run.events if event["event"] == "overflow"]
    assert [event["skipped_total"] for event in overflows] == list(range(1, len(overflows) + 1))


def test_a_full_disk(desk: FaultRuns, name: str) -> None:
    keep = ("checkpoint=default", "checkpoint.save_steps=1", "checkpoint.save_total_limit=null")
    with tmpfs(desk.cwd / "disk", "size=24m") as mounted:
        folder = desk.cwd / "disk" / name
        large, before = ((), None) if mounted else (LARGE_FILES, limited_files)
        process = desk.start(name, *keep, *large, f"hydra.run.dir={folder}", before=before)
        run = desk.end_of(name, process, folder)
        text = expect(desk, run, "disk_full", 16, rank=0, suggests="checkpoint.save_total_limit=1")
        assert "disk free" in text.partition("## Memory and disk")[2]


LARGE_FILES = ("model.config.hidden_size=512", "model.config.intermediate_size=2048")


def limited_files() -> None:
    """Where nothing may be mounted: no file of more than 16 MB, which the checkpoint's are and no other."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (16_000_000, 16_000_000))


@pytest.mark.parametrize("verb", ["plan", "run"])
def test_a_read_only_output_folder(desk: FaultRuns, name: str, verb: str) -> None:
    with tmpfs(desk.cwd / "readonly", "ro,size=1m") as mounted:
        # Where nothing may be mounted, the kernel's own folder is read-only, for root as well.
        folder = desk.cwd / "readonly" if mounted else Path("/proc/sys/kernel")
        before = sorted(folder.iterdir())
        run = desk.end_of(
            name, start(desk.cwd, verb, *desk.overrides(name, f"hydra.run.dir={folder / name}"))
        )
        assert run.exit_code == 2, run.explain()
        assert "hydra.run.dir" in run.stderr
        assert "cannot be written" in run.stderr
        assert "Traceback" not in run.stderr
        assert sorted(folder.iterdir()) == before
        assert desk.recorded(folder / name) is None


def test_a_model_whose_weights_are_missing(desk: FaultRuns, name: str) -> None:
    model = desk.cwd / "model"
    model.mkdir()
    config = {"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4, "vocab_size": 264}
    config |= {"intermediate_size": 128, "num_hidden_layers": 2}
    (model / "config.json").write_text(json.dumps(config))
    overrides = [each for each in desk.overrides(name) if not each.startswith("model.")]
    chosen = ("model=pretrained", f"model.name_or_path={model}", "model.tokenizer=bytes")
    run = desk.end_of(name, start(desk.cwd, *overrides, *chosen))
    assert run.exit_code == 2, run.explain()
    assert "model.name_or_path" in run.stderr
    assert not run.folder.exists(), "the plan refuses it, before anything starts"
    assert desk.recorded(run.folder) is None
    assert processes_mentioning(str(run.folder)) == []


def test_an_operator_that_does_not_compile(desk: FaultRuns, name: str) -> None:
    compiler = desk.cwd / "broken-c++"
    real = shutil.which("c++")
    compiler.write_text(
        f'#!/bin/sh\ncase "$*" in *--version*|*-dumpfullversion*) exec {real} "$@";; esac\n'
        "echo 'adam.cpp:1: error: a planted fault' >&2\nexit 1\n"
    )
    compiler.chmod(0o755)
    empty = {"TORCH_EXTENSIONS_DIR": str(desk.cwd / "operators"), "CXX": str(compiler)}
    run = desk.end_of(name, desk.start(name, "offload=cpu_optimizer", env=empty))
    text = expect(desk, run, "operator_build", 17, rank=0, suggests="offload=none")
    assert "cpu_adam" in run.result["reason"]
    assert "error: a planted fault" in text
