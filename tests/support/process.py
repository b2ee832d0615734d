"""Starting zpipe as a user does, and reading what it leaves behind."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import psutil

from zpipe.runfolder.folder import Attempt, RunFolder
from zpipe.train.ranks import rank_number

NOTHING: Mapping[str, str] = MappingProxyType({})
REPOSITORY = Path(__file__).resolve().parents[2]

SHORT = (
    "model.config.hidden_size=64",
    "model.config.intermediate_size=128",
    "model.config.num_hidden_layers=2",
    "model.config.num_attention_heads=4",
    "data.max_length=64",
    "batch.per_device_train_batch_size=2",
    "train.max_steps=4",
    "train.warmup_steps=0",
    "train.logging_steps=1",
    "checkpoint=none",
)
"""Four steps of a model with 100,000 parameters: the tests are about everything around the training."""

SMALL = (*SHORT, "launcher.device=cpu")
"""The same on the CPU, also on machines with a GPU."""


@dataclass(frozen=True)
class Run:
    exit_code: int
    stdout: str
    stderr: str
    folder: Path
    """The run folder; it does not exist when the input was refused."""

    @property
    def attempt(self) -> Attempt:
        """The files of the last attempt."""
        return RunFolder(self.folder).attempt

    @cached_property
    def events(self) -> list[dict[str, Any]]:
        """Those of the last attempt."""
        return [json.loads(line) for line in self.attempt.events.read_text().splitlines()]

    def series(self, name: str) -> list[tuple[int, float]]:
        """Step and value of a metric, in the order in which they were written."""
        return [
            (event["step"], event["values"][name])
            for event in self.events
            if event["event"] == "metrics" and name in event["values"]
        ]

    @cached_property
    def result(self) -> dict[str, Any]:
        return dict(json.loads(self.attempt.result.read_text()))

    def explain(self) -> str:
        """For the message of a failed assertion."""
        return f"exit {self.exit_code}\n{self.stdout[-3000:]}\n{self.stderr[-3000:]}"


def losses(folder: Path) -> list[float]:
    """The losses that the last attempt of a run logged."""
    return [value for _, value in Run(0, "", "", folder).series("loss")]


def environment(more: Mapping[str, str] = NOTHING) -> dict[str, str]:
    """The environment of zpipe in a test: offline, with the package of this repository first."""
    path = os.pathsep.join([str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "COLUMNS": "160", **more}


def fp16_on_cpu(supported: bool = True) -> dict[str, str]:
    """Variables that make DeepSpeed report this on every processor (tests/support/fp16_on_cpu)."""
    return {**_with_plant("fp16_on_cpu"), "ZPIPE_FP16_ON_CPU": "yes" if supported else "no"}


def with_fault(kind: str, rank: int, step: int) -> dict[str, str]:
    """Variables that make this rank fail at the end of this step (tests/support/faults)."""
    return {**_with_plant("faults"), "ZPIPE_FAULT": f"{kind} {rank} {step}"}


def with_leak(*variables: str) -> dict[str, str]:
    """Variables that make the workers print these variables (tests/support/leaky)."""
    return {**_with_plant("leaky"), "LEAK": ",".join(variables)}


def counting_into(file: Path) -> dict[str, str]:
    """Variables that make zpipe write there what a run should do once (tests/support/counting)."""
    return {**_with_plant("counting"), "ZPIPE_COUNTS": str(file)}


def _with_plant(name: str) -> dict[str, str]:
    folder = REPOSITORY / "tests" / "support" / name
    return {"PYTHONPATH": f"{folder}{os.pathsep}{environment()['PYTHONPATH']}"}


def start(
    cwd: Path,
    *overrides: str,
    before: Callable[[], None] | None = None,
    env: Mapping[str, str] = NOTHING,
) -> subprocess.Popen[str]:
    """Starts zpipe; `before` runs in the new process, ahead of it."""
    return subprocess.Popen(
        [sys.executable, "-m", "zpipe", *overrides],
        cwd=cwd,
        env=environment(env),
        preexec_fn=before,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class Started(Protocol):
    """A zpipe that was started: subprocess.Popen, or a child of a preloaded process."""

    @property
    def returncode(self) -> Any: ...

    def poll(self) -> int | None: ...

    def communicate(self) -> tuple[str, str]: ...

    def kill(self) -> None: ...


def finish(process: Started, folder: Path) -> Run:
    """Waits for a started zpipe; kills it if the test is stopped before (its workers then end themselves)."""
    try:
        stdout, stderr = process.communicate()
    except BaseException:
        process.kill()
        raise
    return Run(process.returncode, stdout, stderr, folder)


def zpipe(cwd: Path, *overrides: str, folder: str = "run", env: Mapping[str, str] = NOTHING) -> Run:
    """Runs zpipe in `cwd` to its end, with the run folder at `cwd/folder`."""
    return finish(start(cwd, *overrides, f"hydra.run.dir={cwd / folder}", env=env), cwd / folder)


def sweep(cwd: Path, *overrides: str, env: Mapping[str, str] = NOTHING) -> Run:
    """Runs a multirun whose points are in `cwd/sweep/0`, `cwd/sweep/1`, …"""
    return finish(start(cwd, "-m", *overrides, f"hydra.sweep.dir={cwd / 'sweep'}", env=env), cwd / "sweep")


def verb(cwd: Path, *arguments: str, folder: Path, env: Mapping[str, str] = NOTHING) -> Run:
    """Runs one of zpipe's commands on a run folder or a sweep folder."""
    return finish(start(cwd, *arguments, env=env), folder)


def wait_for_step(process: Started, folder: Path, seconds: float = 120) -> None:
    """Until the worker trains."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        events = RunFolder(folder).attempt.events
        if events.exists() and '"event": "metrics"' in events.read_text():
            return
        time.sleep(0.1)
    raise AssertionError("the run did not come to its first step")


def worker_of(folder: Path, rank: int) -> psutil.Process:
    """The process of one rank."""
    workers = processes_mentioning(f"-m zpipe.train {folder}")
    return next(
        worker
        for worker in workers
        if "torch.distributed.run" not in worker.cmdline() and rank_number(worker.environ()) == rank
    )


def kill_tree(pid: int) -> None:
    """SIGKILL to the process and all its descendants; waits until those are gone that it can wait for."""
    try:
        root = psutil.Process(pid)
        family = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for each in family:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    psutil.wait_procs(family[1:])


def processes_mentioning(text: str) -> list[psutil.Process]:
    """Living processes with this text in their command line."""
    return [
        process
        for process in psutil.process_iter(["cmdline", "status"])
        if text in " ".join(process.info["cmdline"] or []) and process.info["status"] != psutil.STATUS_ZOMBIE
    ]
