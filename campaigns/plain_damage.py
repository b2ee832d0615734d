"""What plain transformers does with checkpoints that are damaged as in campaigns.damage.

    python -m campaigns.plain_damage [--ranks N] [--only TEXT ...] [--keep FOLDER]

Trains without zpipe, damages the newest of three checkpoints, resumes with resume_from_checkpoint=True, and
prints a line for each damage: whether the Trainer noticed, and how far the losses are from an unbroken run's.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from rich.console import Console

from campaigns import scratch
from campaigns.damage import DAMAGES, END, NEWEST, chosen_damages, parse_options
from campaigns.plain_trainer import MARK
from tests.support.process import REPOSITORY, environment

NOT_WRITTEN = ("no manifest",)
"""transformers has no such file."""


class Matrix:
    """A pristine run with three checkpoints, its unbroken twin, and the folder that is damaged."""

    def __init__(self, base: Path, ranks: int) -> None:
        self._base, self._ranks = base, ranks
        self._losses: dict[int, float] = {}

    def prepare(self) -> None:
        """Raises RuntimeError if plain transformers does not train here."""
        self._losses = dict(self._trained("twin", END, "42"))
        self._trained("pristine", NEWEST, "42")
        self._trained("other", NEWEST, "1")

    def after(self, damage: str) -> str:
        """What becomes of the run that goes on from this damage."""
        newest = self._restored()
        DAMAGES[damage](newest)
        return self._end_of_run()

    def after_other_run(self) -> str:
        """The same with the checkpoint of another run in its place."""
        newest = self._restored()
        shutil.rmtree(newest)
        shutil.copytree(self._base / "other" / newest.name, newest)
        return self._end_of_run()

    def _restored(self) -> Path:
        run = self._base / "run"
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(self._base / "pristine", run)
        return run / f"checkpoint-{NEWEST}"

    def _end_of_run(self) -> str:
        try:
            losses = self._trained("run", END, "42", "resume")
        except RuntimeError as error:
            return f"ends with {str(error).strip().splitlines()[-1][:90]}"
        found = {step: loss for step, loss in losses if step > NEWEST}
        if not found:
            return "trains no further step"
        difference = max(abs(loss - self._losses[step]) for step, loss in found.items())
        first = min(found)
        return f"goes on at step {first} unnoticed; the losses are {difference:.1e} from the unbroken run's"

    def _trained(self, name: str, *arguments: str | int) -> list[tuple[int, float]]:
        argv = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={self._ranks}"]
        argv += ["-m", "campaigns.plain_trainer", str(self._base / name), *map(str, arguments)]
        done = subprocess.run(
            argv, cwd=REPOSITORY, env=environment(), capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(_error_in(done.stderr))
        line = next(line for line in done.stdout.splitlines() if line.startswith(MARK))
        return [(step, loss) for step, loss in json.loads(line.removeprefix(MARK))]


def _error_in(text: str) -> str:
    """The last line of the first traceback of a rank."""
    lines = [line for line in text.splitlines() if "Error" in line and not line.startswith(" ")]
    return next((line for line in lines if "ChildFailedError" not in line), text)


def main() -> int:
    options, console = parse_options(__doc__), Console(width=200)
    with scratch.folder(options.keep, "plain-damage") as base:
        matrix = Matrix(base, options.ranks)
        matrix.prepare()
        for name in chosen_damages(options):
            if name not in NOT_WRITTEN:
                console.print(f"{name:32} {matrix.after(name)}", markup=False)
        console.print(f"{'checkpoint of another run':32} {matrix.after_other_run()}", markup=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
