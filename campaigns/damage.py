"""Damages the newest of three checkpoints in every way, starts the run again, and compares the end.

    python -m campaigns.damage [--ranks N] [--only TEXT …] [--keep FOLDER]

Two ranks at stage 2, unless told otherwise. A run must pass over the damaged checkpoint, name it, go on from
the one before and end with the same checkpoint as an unbroken run; a checkpoint of another run must be
refused. Prints a line for each damage, and ends with 0 if all is as it must be.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from campaigns import scratch
from campaigns.twins import checkpoint_differences
from tests.support import preloaded
from tests.support.checkpoints import flip_bit
from tests.support.process import SMALL, finish
from zpipe.exits import Exit

NEWEST, BEFORE, END = 9, 6, 12
COMMON = (
    *SMALL,
    "stage=2",
    "precision=fp32",
    "scheduler=constant",
    "checkpoint=default",
    "checkpoint.save_steps=3",
    "checkpoint.save_total_limit=3",
    "checkpoint.save_final_model=false",
    "tracking.enabled=false",
)
NEEDS_SHARDS = ("missing shard of a rank", "two shards swapped")
Damage = Callable[[Path], None]


def _file(pattern: str) -> Callable[[Path], Path]:
    return lambda checkpoint: sorted(checkpoint.glob(pattern))[-1]


WEIGHTS, SHARD = _file("model.safetensors"), _file("global_step*/*optim_states.pt")


def truncate(find: Callable[[Path], Path]) -> Damage:
    return lambda checkpoint: os.truncate(find(checkpoint), find(checkpoint).stat().st_size // 2)


def remove(find: Callable[[Path], Path]) -> Damage:
    return lambda checkpoint: find(checkpoint).unlink()


def flip(find: Callable[[Path], Path]) -> Damage:
    return lambda checkpoint: flip_bit(find(checkpoint), find(checkpoint).stat().st_size // 2)


def empty(checkpoint: Path) -> None:
    shutil.rmtree(checkpoint)
    checkpoint.mkdir()


def swap_shards(checkpoint: Path) -> None:
    one, other = sorted(checkpoint.glob("global_step*/*optim_states.pt"))
    aside = checkpoint / "aside"
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def make_latest_stale(checkpoint: Path) -> None:
    (checkpoint / "latest").write_text(f"global_step{BEFORE}")


DAMAGES: dict[str, Damage] = {
    "missing state file": remove(_file("trainer_state.json")),
    "truncated weights": truncate(WEIGHTS),
    "truncated optimizer shard": truncate(SHARD),
    "empty folder": empty,
    "flipped bit in the weights": flip(WEIGHTS),
    "flipped bit in the optimizer": flip(SHARD),
    "no manifest": remove(_file("manifest.json")),
    "missing shard of a rank": remove(SHARD),
    "two shards swapped": swap_shards,
    "stale latest": make_latest_stale,
}


class Matrix:
    """A pristine run with three checkpoints, an unbroken twin, and the folder that is damaged."""

    def __init__(self, base: Path, ranks: int) -> None:
        self._base, self._ranks = base, ranks
        self._run = base / "run"
        self._pristine = base / "pristine"
        self.text_file = scratch.write_text(base)

    def prepare(self) -> None:
        for name, steps in (("twin", END), ("run", NEWEST), ("other", NEWEST)):
            seed = 1 if name == "other" else 42
            code, printed = self._train(self._base / name, steps, f"train.seed={seed}")
            assert code == 0, printed[-3000:]
        self._run.rename(self._pristine)

    def differs(self, damage: Damage) -> str:
        """What is wrong with the end of the run, or nothing."""
        code, printed = self._go_on(damage)
        if code != 0:
            return f"exit {code}: {printed[-500:]}"
        if f"checkpoint-{NEWEST} is" not in printed or f"from step {BEFORE}" not in printed:
            return f"did not say what was passed over: {printed[-500:]}"
        return "; ".join(checkpoint_differences(self._base / "twin", self._run, f"checkpoint-{END}"))

    def accepts_other_run(self) -> str:
        code, printed = self._go_on(lambda checkpoint: self._replace(checkpoint, self._base / "other"))
        is_refused = code == Exit.REFUSED and f"checkpoint-{NEWEST}" in printed
        return "" if is_refused else f"exit {code}: {printed[-500:]}"

    def _go_on(self, damage: Damage) -> tuple[int, str]:
        self._restore(damage)
        return self._train(self._run, END, "train.seed=42")

    def _restore(self, damage: Damage) -> None:
        shutil.rmtree(self._run, ignore_errors=True)
        shutil.copytree(self._pristine, self._run)
        damage(self._run / f"checkpoint-{NEWEST}")

    @staticmethod
    def _replace(checkpoint: Path, other: Path) -> None:
        shutil.rmtree(checkpoint)
        shutil.copytree(other / checkpoint.name, checkpoint)

    def _train(self, folder: Path, steps: int, *more: str) -> tuple[int, str]:
        """The exit code, and what was printed."""
        launcher = preloaded.launcher(self._ranks)
        varying = (launcher, f"train.max_steps={steps}", f"data.path={self.text_file}", *more)
        arguments = (*COMMON, *varying, f"hydra.run.dir={folder}")
        ended = finish(preloaded.start(self._base, *arguments), folder)
        return ended.exit_code, ended.stdout + ended.stderr


def main() -> int:
    options, console = parse_options(__doc__), Console()
    failed = 0
    with scratch.folder(options.keep, "damage") as base:
        matrix = Matrix(base, options.ranks)
        matrix.prepare()
        for name in chosen_damages(options):
            problem = matrix.differs(DAMAGES[name])
            failed += problem != ""
            console.print(f"{name:32} {problem or 'passed over'}", markup=False)
        problem = matrix.accepts_other_run()
        failed += problem != ""
        console.print(f"{'checkpoint of another run':32} {problem or 'refused'}", markup=False)
    return 1 if failed else 0


def parse_options(description: str | None) -> argparse.Namespace:
    parser = scratch.parser(description, "damages")
    parser.add_argument("--ranks", type=int, default=2)
    return parser.parse_args()


def chosen_damages(options: argparse.Namespace) -> list[str]:
    """Those of --only that so many ranks can have."""
    possible = [name for name in DAMAGES if options.ranks > 1 or name not in NEEDS_SHARDS]
    return [name for name in possible if any(text in name for text in options.only)]


if __name__ == "__main__":
    sys.exit(main())
