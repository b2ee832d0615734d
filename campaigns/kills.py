"""Kills runs at random moments, starts them again until they end, and compares each with an unbroken twin.

    python -m campaigns.kills [--kills N] [--only TEXT …] [--single-rank] [--seed N]
        [--keep FOLDER]

At least every other kill falls into the saving of a checkpoint. A run must end with the same checkpoints, bit
by bit (weights, optimizer, scheduler, random states, losses), the same model and the same series in MLflow as
its twin. Prints a line for each run, and ends with 0 if all are equal.
"""

import argparse
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from campaigns import scratch
from campaigns.twins import differences, save_seconds
from tests.support import preloaded
from tests.support.process import SMALL, fp16_on_cpu

STEPS, SAVE_STEPS = 12, 3
POLL_SECONDS = 0.001
_MOST_STARTS = 60

COMMON = (
    *SMALL,
    "checkpoint=default",
    "checkpoint.save_total_limit=3",
    f"checkpoint.save_steps={SAVE_STEPS}",
    f"train.max_steps={STEPS}",
    "train.logging_steps=2",
    "scheduler=cosine",
)
CPU_OPTIMIZER, CPU, NVME = ("offload=cpu_optimizer",), ("offload=cpu",), ("offload=nvme",)
FP16 = ("precision=fp16", "precision.fp16.initial_scale_power=18", "precision.fp16.loss_scale_window=3")


@dataclass(frozen=True)
class Case:
    name: str
    overrides: tuple[str, ...]
    ranks: int = 1

    def arguments(self, folder: Path, text_file: Path, name: str) -> list[str]:
        fixed = (f"data.path={text_file}", f"hydra.run.dir={folder / name}", f"tracking.run_name={name}")
        return [*COMMON, *self.overrides, preloaded.launcher(self.ranks), *fixed]


def cases() -> Iterator[Case]:
    yield Case("stage 0, bf16", ("stage=0", "precision=bf16"))
    for stage in (1, 2, 3):
        yield Case(f"stage {stage}, fp32", (f"stage={stage}", "precision=fp32"))
        yield Case(f"stage {stage}, bf16", (f"stage={stage}", "precision=bf16"))
        yield Case(f"stage {stage}, fp16", (f"stage={stage}", *FP16))
        yield Case(f"stage {stage}, fp32, 2 ranks", (f"stage={stage}", "precision=fp32"), ranks=2)
    foreground = ("stage=2", "precision=fp32", "checkpoint.async_save=false")
    yield Case("stage 2, in the foreground", foreground)
    yield Case("stage 2, in the foreground, 2 ranks", foreground, ranks=2)
    for stage, dtype in ((2, "bf16"), (3, "fp32")):
        yield Case(f"stage {stage}, CPU offload", (f"stage={stage}", f"precision={dtype}", *CPU_OPTIMIZER))
        yield Case(f"stage 3, NVMe, {dtype}", ("stage=3", f"precision={dtype}", *NVME))
    yield Case("stage 3, CPU offload, 2 ranks", ("stage=3", "precision=bf16", *CPU), ranks=2)


class Campaign:
    """One case: its twin, and the run that is killed."""

    def __init__(self, case: Case, folder: Path, text_file: Path, chance: random.Random) -> None:
        self._case, self._folder, self._text_file, self._chance = case, folder, text_file, chance
        self._twin = folder / "twin"
        self.kills = 0
        self.kills_while_saving = 0
        self._save_seconds = 0.1
        self._seconds = 5.0

    def train_twin(self) -> str:
        """The problem, or nothing."""
        began = time.monotonic()
        child = self._start("twin")
        child.communicate()
        self._seconds = time.monotonic() - began
        self._save_seconds = save_seconds(self._twin) or self._save_seconds
        return "" if child.returncode == 0 else f"the twin ended with {child.returncode}"

    def run_with_kills(self, name: str, most: int) -> str:
        """Starts the run again after each kill until it ends; returns what differs from the twin."""
        for begun in range(_MOST_STARTS):
            child = self._start(name)
            if begun < most:
                self._kill_at_random(child, self._folder / name)
            _, errors = child.communicate()
            if child.returncode == 0:
                return "; ".join(differences(self._twin, self._folder / name, self._folder))
            if child.returncode != -9:
                return f"ended with {child.returncode}: {errors[-1500:]}"
        return f"not finished after {_MOST_STARTS} starts"

    def _kill_at_random(self, child: preloaded.Child, run: Path) -> None:
        waits_for_save = self._chance.random() < 0.6
        until = time.monotonic() + self._chance.uniform(0, 1.1 * self._seconds)
        skipped = self._chance.randrange(3)
        seen: set[str] = set()
        while child.poll() is None:
            saving = {path.name for path in run.glob(".saving-*")}
            if waits_for_save and saving - seen:
                seen |= saving
                if len(seen) > skipped:
                    time.sleep(self._chance.uniform(0, self._save_seconds))
                    break
            elif not waits_for_save and time.monotonic() >= until:
                break
            time.sleep(POLL_SECONDS)
        if child.poll() is None:
            child.kill()
            self.kills += 1
            self.kills_while_saving += any(run.glob(".saving-*"))

    def _start(self, name: str) -> preloaded.Child:
        arguments = self._case.arguments(self._folder, self._text_file, name)
        return preloaded.start(self._folder, *arguments, env=fp16_on_cpu())


def main() -> int:
    options = _options()
    console, chance = Console(), random.Random(options.seed)  # noqa: S311 - moments, no secrets
    chosen = [each for each in cases() if any(text in each.name for text in options.only)]
    chosen = [each for each in chosen if each.ranks == 1 or not options.single_rank]
    with scratch.folder(options.keep, "kills") as base:
        text_file = scratch.write_text(base)
        share = -(-options.kills // len(chosen))
        results = [_run(case, base, text_file, chance, share, console) for case in chosen]
    kills, saving, failed = (sum(each) for each in zip(*results, strict=True))
    console.print(f"{kills} kills, {saving} of them while a checkpoint was saved; {failed} runs differ")
    return 1 if failed else 0


def _run(
    case: Case, base: Path, text_file: Path, chance: random.Random, kills: int, console: Console
) -> tuple[int, int, int]:
    """Kills, those while saving, and runs that differ from the twin."""
    folder = base / case.name.replace(", ", "-").replace(" ", "_")
    folder.mkdir()
    campaign, failed, number = Campaign(case, folder, text_file, chance), 0, 0
    problem = campaign.train_twin()
    while not problem and campaign.kills < kills:
        number += 1
        before, began = campaign.kills, time.monotonic()
        problem = campaign.run_with_kills(f"run{number}", min(6, kills - campaign.kills))
        taken = f"{campaign.kills - before} kills, {time.monotonic() - began:.0f} s"
        console.print(f"{case.name:32} run {number}: {problem or 'equal'} ({taken})", markup=False)
    if problem:
        failed = 1
        console.print(f"{case.name:32} {problem}", markup=False)
    return campaign.kills, campaign.kills_while_saving, failed


def _options() -> argparse.Namespace:
    parser = scratch.parser(__doc__, "cases")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--single-rank", action="store_true", help="only cases of one rank")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
