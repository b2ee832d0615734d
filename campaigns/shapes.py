"""Breaks runs off and goes on with other numbers of processes and other stages, beside unbroken twins.

    python -m campaigns.shapes [--only TEXT …] [--keep FOLDER]

Each case trains a twin, and then goes on from copies of its checkpoints in the shapes of its legs. The
learning rates must be equal, the losses within the tolerance of the precision. Prints a line for each leg
with the largest difference of the losses, and ends with 0 if all hold.
"""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from campaigns import scratch
from tests.support import preloaded, process
from tests.support.process import SMALL, Run, fp16_on_cpu
from zpipe.checkpoints.shape import Shape
from zpipe.runfolder.folder import RunFolder, checkpoint_name

STEPS, SAVE_STEPS = 12, 4
TOLERANCE = {"fp32": 2e-5, "bf16": 2e-3, "fp16": 2e-3}
"""Of the losses, which are near 5."""
SEQUENCES = 4
"""Of all processes in one step."""

COMMON = (
    *SMALL,
    "checkpoint=default",
    f"checkpoint.save_steps={SAVE_STEPS}",
    "checkpoint.save_total_limit=null",
    f"train.max_steps={STEPS}",
    "train.weight_decay=0.1",
    "scheduler=cosine",
    f"batch.train_batch_size={SEQUENCES}",
    "batch.per_device_train_batch_size=1",
    "data.packing=none",
)
FP16 = ("precision.fp16.initial_scale_power=18", "precision.fp16.loss_scale_window=3")


@dataclass(frozen=True)
class Case:
    """The twin trains in the first shape. Each leg goes on from what the shape before it has saved."""

    shapes: tuple[Shape, ...]
    precision: str = "fp32"
    more: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        path = " -> ".join(f"{shape.processes} x stage {shape.stage}" for shape in self.shapes)
        return ", ".join([path, self.precision, *self.more])

    def overrides(self, shape: Shape) -> list[str]:
        fp16 = FP16 if self.precision == "fp16" else ()
        return [*COMMON, *fp16, f"precision={self.precision}", f"stage={shape.stage}", *self.more]


def cases() -> Iterator[Case]:
    for stage in (0, 1, 2, 3):
        yield Case((Shape(2, stage), Shape(1, stage), Shape(2, stage)))
    for old, new in ((2, 1), (1, 2), (3, 2), (2, 3), (1, 3), (3, 1)):
        yield Case((Shape(1, old), Shape(1, new)))
    yield Case((Shape(2, 2), Shape(2, 3)), "bf16")
    yield Case((Shape(2, 3), Shape(1, 2), Shape(1, 3)), "bf16")
    yield Case((Shape(1, 2), Shape(1, 3)), "fp16")
    yield Case((Shape(2, 3), Shape(1, 2)), "fp32", ("offload=cpu_optimizer",))
    yield Case((Shape(1, 3), Shape(1, 1)), "bf16", ("offload=cpu_optimizer",))
    yield Case((Shape(1, 1), Shape(1, 3)), "bf16", ("precision.data_types.grad_accum_dtype=fp32",))
    yield Case((Shape(1, 2), Shape(1, 3)), "fp32", ("optimizer=sgd",))


class Campaign:
    """One case, in its own folder."""

    def __init__(self, case: Case, folder: Path, text_file: Path) -> None:
        self._case, self._folder, self._text_file = case, folder, text_file

    def results(self) -> Iterator[tuple[str, float, str]]:
        """The name of each leg, the largest difference of its losses, and the problem if there is one."""
        first, *legs = self._case.shapes
        twin = self._run(first, "twin")
        if twin.exit_code != 0:
            yield "twin", 0.0, twin.explain()
            return
        expected = _series(twin.folder)
        last = twin.folder
        for number, shape in enumerate(legs, 1):
            folder = self._folder / f"leg-{number}"
            step = SAVE_STEPS * number
            _break_off(last, folder, step)
            yield str(shape), *self._compared(self._run(shape, folder.name), step, expected)
            last = folder

    def _run(self, shape: Shape, name: str) -> Run:
        overrides = [*self._case.overrides(shape), f"data.path={self._text_file}", "resume.trust=true"]
        if shape.processes == 1:
            return preloaded.zpipe(self._folder, *overrides, folder=name, env=fp16_on_cpu())
        overrides.append(f"launcher.nproc_per_node={shape.processes}")
        return process.zpipe(self._folder, *overrides, folder=name, env=fp16_on_cpu())

    def _compared(self, run: Run, step: int, expected: dict[int, tuple[float, float]]) -> tuple[float, str]:
        if run.exit_code != 0:
            return 0.0, run.explain()
        found = _series(run.folder)
        if sorted(found) != list(range(step + 1, STEPS + 1)):
            return 0.0, f"steps {sorted(found)} after {step}"
        difference = max(abs(found[each][0] - expected[each][0]) for each in found)
        if any(found[each][1] != expected[each][1] for each in found):
            return difference, "other learning rates"
        is_close = difference <= TOLERANCE[self._case.precision]
        return difference, "" if is_close else "the losses differ"


def _break_off(source: Path, folder: Path, step: int) -> None:
    """A copy of the run as if it had been killed after it had saved this step."""
    shutil.copytree(source, folder, symlinks=True)
    for later in range(step + 1, STEPS + 1):
        shutil.rmtree(folder / checkpoint_name(later), ignore_errors=True)
    run = RunFolder(folder)
    for attempt in run.attempts:
        attempt.result.unlink(missing_ok=True)
    (folder / "result.json").unlink(missing_ok=True)


def _series(folder: Path) -> dict[int, tuple[float, float]]:
    """Loss and learning rate of each step of the last attempt."""
    lines = RunFolder(folder).attempt.events.read_text(encoding="utf-8").splitlines()
    values = [event for event in map(json.loads, lines) if event["event"] == "metrics"]
    return {
        event["step"]: (event["values"]["loss"], event["values"]["learning_rate"])
        for event in values
        if "loss" in event["values"]
    }


def write_text(file: Path) -> Path:
    """Lines of different lengths: without packing, micro-batches have different numbers of tokens."""
    words = Path(process.REPOSITORY, "LICENSE").read_text(encoding="utf-8").split()
    lines, position = [], 0
    for number in range(150):
        length = 2 + number * 7 % 11
        lines.append(json.dumps({"text": " ".join(words[position : position + length])}))
        position = (position + length) % (len(words) - 20)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def main() -> int:
    options, console, failed = _options(), Console(width=200), 0
    with scratch.folder(options.keep, "shapes") as base:
        text_file = write_text(base / "train.jsonl")
        for number, case in enumerate(cases()):
            if not any(text in case.name for text in options.only):
                continue
            folder = base / f"case-{number}"
            folder.mkdir()
            began = time.monotonic()
            for leg, difference, problem in Campaign(case, folder, text_file).results():
                failed += problem != ""
                taken = f"{time.monotonic() - began:.0f} s"
                text = f"{case.name:60} {leg:24} {difference:.1e}  {problem or 'ok'}  ({taken})"
                console.print(text, markup=False)
    console.print(f"{failed} legs failed")
    return 1 if failed else 0


def _options() -> argparse.Namespace:
    parser = scratch.parser(__doc__, "cases")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
