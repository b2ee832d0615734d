"""Exports checkpoints of every stage and offload, and compares the folders with what was trained.

    python -m campaigns.exports [--only TEXT …] [--keep FOLDER]

For each case a real training, then exports in fp32 (several files), bf16 and fp16. The fp32 weights are
compared bit by bit with those that DeepSpeed's zero_to_fp32 merges, the others with the rounded fp32 weights
and with the weights that the training saved. zero_to_fp32 does not read swap files, so fp32 weights from NVMe
are only compared after rounding. Faults are planted in a copy whose manifest agrees with them. Then a model
of 200 MB is exported: peak of host memory, Ctrl-C, no room for its files (campaigns/large_export.py). Prints
a line for each, and ends with 0 if all is as it must be.
"""

import argparse
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from campaigns import large_export, scratch
from tests.support import exports, preloaded
from tests.support.process import SMALL, finish
from zpipe.exits import Exit

STEP = 4
GOOD = ("equal", "caught", "nothing is left", "peak")
"""How the results begin that are as they must be."""
COMMON = (
    *SMALL,
    "checkpoint=default",
    f"checkpoint.save_steps={STEP}",
    "checkpoint.save_total_limit=1",
    f"train.max_steps={STEP}",
    "train.learning_rate=1e-3",
    "tracking.enabled=false",
)
SWAPPED = (
    "model.config.hidden_size=512",
    "model.config.intermediate_size=2048",
    "train.weight_decay=0.1",
)
"""Large enough for swap files: DeepSpeed keeps parameters below 1 MB of a rank in memory."""
UNGATHERED = ("stage.stage3_gather_16bit_weights_on_model_save=false", "checkpoint.save_final_model=false")
BF16 = ("precision=bf16",)


@dataclass(frozen=True)
class Case:
    name: str
    overrides: tuple[str, ...]
    ranks: int = 1
    trained: str = "bf16"
    has_masters: bool = True
    """Whether fp32 weights can be exported."""
    is_swapped: bool = False
    """Whether masters are in swap files, which DeepSpeed's own tool does not read."""
    is_gathered: bool = True
    """Whether the training saved whole weights too."""


CASES = (
    Case("stage 0, bf16", ("stage=0", *BF16), has_masters=False),
    Case("stage 1, bf16", ("stage=1", *BF16)),
    Case("stage 2, bf16", ("stage=2", *BF16)),
    Case("stage 3, bf16", ("stage=3", *BF16)),
    Case("stage 1, fp32", ("stage=1", "precision=fp32"), trained="fp32"),
    Case("stage 3, fp32", ("stage=3", "precision=fp32"), trained="fp32"),
    Case("stage 2, bf16, 2 ranks", ("stage=2", *BF16), ranks=2),
    Case("stage 3, bf16, 2 ranks", ("stage=3", *BF16), ranks=2),
    Case("stage 2, bf16, weight decay", ("stage=2", *BF16, "train.weight_decay=0.1")),
    Case("stage 2, bf16, CPU offload", ("stage=2", *BF16, "offload=cpu_optimizer")),
    Case("stage 3, bf16, CPU offload", ("stage=3", *BF16, "offload=cpu")),
    Case("stage 3, bf16, NVMe offload", ("stage=3", *BF16, "offload=nvme", *SWAPPED), is_swapped=True),
    Case(
        "stage 3, bf16, NVMe, 2 ranks",
        ("stage=3", *BF16, "offload=nvme_optimizer", *SWAPPED),
        ranks=2,
        is_swapped=True,
    ),
    Case("stage 3, bf16, not gathered", ("stage=3", *BF16, *UNGATHERED), is_gathered=False),
)


class Exported:
    """The exports of one run."""

    def __init__(self, case: Case, base: Path, text_file: Path) -> None:
        self._case, self._base = case, base
        self.run = base / "run"
        self.checkpoint = self.run / f"checkpoint-{STEP}"
        self._text_file = text_file

    def train(self) -> str:
        """The problem, or nothing."""
        launcher = preloaded.launcher(self._case.ranks)
        fixed = (launcher, f"data.path={self._text_file}", f"hydra.run.dir={self.run}")
        done = finish(preloaded.start(self._base, *COMMON, *self._case.overrides, *fixed), self.run)
        return "" if done.exit_code == 0 else f"the training ended with {done.explain()}"

    def problem(self) -> str:
        """What is wrong with the exported folders."""
        case = self._case
        dtypes = ("fp32", "bf16", "fp16") if case.has_masters else (case.trained,)
        folders = {}
        for dtype in dtypes:
            size = "100KB" if dtype == "fp32" else "5GB"
            code, printed, folders[dtype] = self.export(
                self.run, dtype, "--dtype", dtype, "--max-shard-size", size
            )
            if code != 0:
                return f"{dtype}: exit {code}: {printed[-400:]}"
        found = {dtype: exports.weights_in(folder) for dtype, folder in folders.items()}
        wrong = [*self._wrong_masters(found), *self._wrong_roundings(found)]
        return "; ".join(wrong)

    def _wrong_masters(self, found: dict[str, Any]) -> Iterator[str]:
        if "fp32" not in found or self._case.is_swapped:
            return
        expected = exports.deepspeeds_masters(self.checkpoint)
        expected.pop("lm_head.weight")
        names = exports.differing(found["fp32"], expected)
        if names:
            yield f"{len(names)} fp32 tensors are not DeepSpeed's: {names[0]}"

    def _wrong_roundings(self, found: dict[str, Any]) -> Iterator[str]:
        import torch

        dtypes = {"bf16": torch.bfloat16, "fp16": torch.float16}
        for dtype in set(found) & set(dtypes):
            if "fp32" in found:
                rounded = {name: value.to(dtypes[dtype]) for name, value in found["fp32"].items()}
                names = exports.differing(found[dtype], rounded)
                if names:
                    yield f"{len(names)} {dtype} tensors are not the rounded fp32 ones: {names[0]}"
        if self._case.is_gathered:
            saved = exports.weights_in(self.checkpoint)
            own = {name: saved[name] for name in found[self._case.trained]}
            names = exports.differing(found[self._case.trained], own)
            if names:
                yield f"{len(names)} tensors are not those that the training saved: {names[0]}"

    def misses(self, fault: exports.Fault, dtype: str, message: str, name: str) -> str:
        """Why a planted fault was not caught."""
        copy = exports.copy_of(self.run, self._base / name)
        fault(copy / self.checkpoint.name)
        exports.renew_manifest(copy / self.checkpoint.name)
        code, printed, output = self.export(copy, f"{name}-out", "--dtype", dtype)
        if code != Exit.REFUSED or message not in printed:
            return f"exit {code}: {printed[-400:]}"
        return "a folder is left" if output.exists() or any(self._base.glob(".exporting-*")) else ""

    def export(self, run: Path, name: str, *arguments: str) -> tuple[int, str, Path]:
        output = self._base / name
        command = ("export", str(run), "--output", str(output), *arguments)
        done = preloaded.verb(self._base, *command, folder=run)
        return done.exit_code, done.stdout + done.stderr, output


FAULTS: tuple[tuple[str, exports.Fault, str, str], ...] = (
    ("dropped tensor", exports.drop_tensor, "bf16", "it lacks model.norm.weight"),
    ("NaN", exports.plant_nan, "bf16", "is not finite"),
    ("two shards swapped", exports.swap_shards, "fp32", "is not what the training saved"),
)


def main() -> int:
    options, console = _options(), Console()
    failed = 0
    with scratch.folder(options.keep, "exports") as base:
        text_file = scratch.write_text(base)
        for name, result in _results(base, text_file, options.only):
            failed += not result.startswith(GOOD)
            console.print(f"{name:44} {result}", markup=False, soft_wrap=True)
    return 1 if failed else 0


def _results(base: Path, text_file: Path, only: list[str]) -> Iterator[tuple[str, str]]:
    for case in CASES:
        if any(text in case.name for text in only):
            yield from _of_case(case, base, text_file)
    if any(text in "large" for text in only):
        yield from large_export.results(base, text_file)


def _of_case(case: Case, base: Path, text_file: Path) -> Iterator[tuple[str, str]]:
    folder = base / case.name.replace(", ", "-").replace(" ", "_")
    folder.mkdir()
    exported = Exported(case, folder, text_file)
    problem = exported.train() or exported.problem()
    yield case.name, problem or "equal"
    if case.ranks == 2 and not case.is_swapped and not problem:
        for name, fault, dtype, message in FAULTS:
            missed = exported.misses(fault, dtype, message, name.replace(" ", "-"))
            yield f"{case.name}: {name}", missed or "caught"
    shutil.rmtree(folder)


def _options() -> argparse.Namespace:
    parser = scratch.parser(__doc__, "cases")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
