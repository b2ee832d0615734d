"""Kills runs on all GPUs of this machine, in a save and in a step, and goes on with all and with one of them.

    python -m campaigns.gpus [--only TEXT ...] [--keep FOLDER]

Each run is compared with one that was not killed: every step must be in MLflow once, with a loss within the
tolerance of bf16 on GPUs, whose attention adds in any order. Prints a line for each run, and ends with 0 if
all hold.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from campaigns import scratch
from campaigns.twins import mlflow_series
from tests.support import process
from zpipe.machine.hardware import detect
from zpipe.runfolder.events import CheckpointSaved, StepReached
from zpipe.runfolder.folder import RunFolder
from zpipe.runfolder.run_events import RunEvents

STEPS, SAVE_STEPS = 30, 10
SEQUENCES = 8
"""Of all GPUs in one step."""
TOLERANCE = 5e-2
"""Of the losses; a uniform guess over the 264 tokens has 5.6."""

COMMON = (
    "model.config.hidden_size=1024",
    "model.config.intermediate_size=4096",
    "model.config.num_hidden_layers=12",
    "model.config.num_attention_heads=16",
    "data.max_length=256",
    "precision=bf16",
    "checkpoint=default",
    f"checkpoint.save_steps={SAVE_STEPS}",
    f"train.max_steps={STEPS}",
    "train.logging_steps=1",
    "train.warmup_steps=0",
    f"batch.train_batch_size={SEQUENCES}",
    "batch.per_device_train_batch_size=1",
)

Moment = Callable[[Path], bool]
"""Whether a run should be killed now."""


def in_a_save(run: Path) -> bool:
    """While the second checkpoint is written."""
    return any(run.glob(f".saving-*-{2 * SAVE_STEPS}"))


def in_a_step(run: Path) -> bool:
    """Between the second checkpoint and the third."""
    events = list(RunEvents(RunFolder(run)).read_new()) if run.is_dir() else []
    saved = any(isinstance(each, CheckpointSaved) and each.step == 2 * SAVE_STEPS for each in events)
    return saved and any(isinstance(each, StepReached) and each.step > 2 * SAVE_STEPS for each in events)


MOMENTS: dict[str, Moment] = {"in a save": in_a_save, "in a step": in_a_step}


class Campaign:
    """One stage, in its own folder."""

    def __init__(self, stage: int, gpus: int, folder: Path, text_file: Path) -> None:
        self._stage, self._gpus, self._folder, self._text_file = stage, gpus, folder, text_file

    def train_twin(self) -> str:
        """The problem, or nothing."""
        return self._ended(self._start("twin", self._gpus))

    def run(self, name: str, moment: Moment, gpus_after: int) -> tuple[float, str]:
        """The largest difference of the losses, and the problem if there is one."""
        killed = self._start(name, self._gpus)
        while killed.poll() is None and not moment(self._folder / name):
            time.sleep(0.01)
        if killed.poll() is not None:
            return 0.0, f"ended before it was killed: {self._ended(killed)}"
        process.kill_tree(killed.pid)
        killed.wait()
        problem = self._ended(self._start(name, gpus_after))
        return (0.0, problem) if problem else self._compared(name)

    def _start(self, name: str, gpus: int) -> "subprocess.Popen[str]":
        overrides = [*COMMON, f"stage={self._stage}", f"launcher.nproc_per_node={gpus}"]
        overrides += [f"data.path={self._text_file}", f"hydra.run.dir={self._folder / name}"]
        return process.start(self._folder, *overrides)

    def _ended(self, started: "subprocess.Popen[str]") -> str:
        run = process.finish(started, self._folder)
        return "" if run.exit_code == 0 else run.explain()

    def _compared(self, name: str) -> tuple[float, str]:
        store = self._folder / "outputs" / "mlflow.db"
        expected, found = (mlflow_series(store, self._folder / each)["loss"] for each in ("twin", name))
        if [step for step, _ in found] != [step for step, _ in expected]:
            return 0.0, f"steps {[step for step, _ in found]}"
        difference = max(abs(one - other) for (_, one), (_, other) in zip(expected, found, strict=True))
        return difference, "" if difference <= TOLERANCE else "the losses differ"


def main() -> int:
    options, console, failed = scratch.parser(__doc__, "runs").parse_args(), Console(width=200), 0
    gpus = len(detect().gpus)
    with scratch.folder(options.keep, "gpus") as base:
        text_file = scratch.write_text(base)
        for stage in (2, 3):
            legs = {
                f"stage {stage}, {gpus} GPUs, killed {moment}, then {after}": (MOMENTS[moment], after)
                for moment in MOMENTS
                for after in sorted({1, gpus})
            }
            chosen = {name: leg for name, leg in legs.items() if any(text in name for text in options.only)}
            folder = base / f"stage-{stage}"
            folder.mkdir()
            failed += _failed(Campaign(stage, gpus, folder, text_file), chosen, console)
    console.print(f"{failed} runs failed")
    return 1 if failed else 0


def _failed(campaign: Campaign, legs: dict[str, tuple[Moment, int]], console: Console) -> int:
    problem = campaign.train_twin() if legs else ""
    if problem:
        console.print(f"the twin: {problem}", markup=False)
        return len(legs)
    failed = 0
    for name, (moment, after) in legs.items():
        began = time.monotonic()
        difference, problem = campaign.run(name.replace(", ", "-").replace(" ", "_"), moment, after)
        seconds = f"{time.monotonic() - began:.0f} s"
        console.print(f"{name:48} {difference:.1e}  {problem or 'ok'}  ({seconds})", markup=False)
        failed += problem != ""
    return failed


if __name__ == "__main__":
    sys.exit(main())
