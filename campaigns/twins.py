"""Compares a run that was broken off and went on with one that was not."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from zpipe.checkpoints.folders import checkpoints_in
from zpipe.checkpoints.manifest import read_manifest
from zpipe.runfolder.folder import RunFolder

UNCOMPARED = (
    "checkpoint/",
    "throughput/",
    "memory/",
    "system/",
    "runtime",
    "step_time",
    "per_second",
    "tokens_per_sec",
    "samples_per_sec",
    "tflops",
    "mfu",
)
"""Parts of the names of metrics that measure time or memory."""

Series = dict[str, list[tuple[int, float]]]


def differences(twin: Path, run: Path, store_folder: Path, checkpoint: str | None = None) -> Iterator[str]:
    """What differs between the checkpoints, the models and the series in outputs/mlflow.db.

    With the name of a checkpoint, the runs may have others beside it.
    """
    if checkpoint is None:
        yield from _of_checkpoints(twin, run)
    else:
        yield from checkpoint_differences(twin, run, checkpoint)
    yield from _of_models(twin, run)
    store = store_folder / "outputs" / "mlflow.db"
    ours, theirs = mlflow_series(store, run), mlflow_series(store, twin)
    for name in sorted({*ours, *theirs}):
        if ours.get(name) != theirs.get(name):
            yield f"{name}: {_first_difference(theirs.get(name, []), ours.get(name, []))}"


def save_seconds(run: Path) -> float | None:
    """How long the run took to save its checkpoints, from the time of each manifest and its oldest file."""
    spans = []
    for folder in checkpoints_in(run):
        files = [file.stat().st_mtime for file in folder.rglob("*") if file.is_file()]
        spans.append(max(files) - min(files))
    return max(spans, default=None)


def checkpoint_differences(twin: Path, run: Path, name: str) -> Iterator[str]:
    """Files of this checkpoint that mean something else in the two runs; bytes of a pickle may differ."""
    one, other = twin / name, run / name
    pairs = [{entry.path: entry.digest for entry in read_manifest(each).files} for each in (one, other)]
    for path in sorted({*pairs[0], *pairs[1]}):
        if pairs[0].get(path) == pairs[1].get(path):
            continue
        is_pickle = path in pairs[0] and path in pairs[1] and path.endswith((".pt", ".pth"))
        what = _first_change(_loaded(one / path), _loaded(other / path)) if is_pickle else "differs"
        if what:
            yield f"{name}/{path}: {what}"


def _of_checkpoints(twin: Path, run: Path) -> Iterator[str]:
    theirs, ours = ([folder.name for folder in checkpoints_in(each)] for each in (twin, run))
    if theirs != ours:
        yield f"checkpoints {ours} instead of {theirs}"
        return
    for name in theirs:
        yield from checkpoint_differences(twin, run, name)


def _loaded(file: Path) -> Any:
    from zpipe.train.safe_loading import load_restricted

    return load_restricted(str(file), "cpu")


def _first_change(one: Any, other: Any, where: str = "") -> str:
    """Where two states differ; the folder of the swap files, which is part of the run's, may."""
    import torch

    if torch.is_tensor(one) and torch.is_tensor(other):
        return "" if one.dtype == other.dtype and torch.equal(one, other) else f"{where} differs"
    if isinstance(one, dict) and isinstance(other, dict) and list(one) == list(other):
        parts = [(one[key], other[key], f"{where}.{key}") for key in one if key != "nvme_path"]
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        parts = [(a, b, f"{where}[{n}]") for n, (a, b) in enumerate(zip(one, other, strict=True))]
    elif hasattr(one, "__dict__") and type(one) is type(other):
        parts = [(vars(one), vars(other), where)]
    else:
        return "" if bool(one == other) else f"{where}: {other!r} instead of {one!r}"
    return next(filter(None, (_first_change(*part) for part in parts)), "")


def _of_models(twin: Path, run: Path) -> Iterator[str]:
    for file in sorted(RunFolder(twin).model.glob("*.safetensors")):
        other = RunFolder(run).model / file.name
        if not other.is_file() or other.read_bytes() != file.read_bytes():
            yield f"model/{file.name}"


def mlflow_series(store: Path, run: Path) -> Series:
    """Every metric of a run that measures neither time nor memory: step and value, by step."""
    run_id = json.loads(RunFolder(run).record_state.read_text())["run_id"]
    found: Series = {}
    with closing(sqlite3.connect(store)) as database:
        rows = database.execute(
            "SELECT key, step, value FROM metrics WHERE run_uuid = ? ORDER BY key, step, timestamp", (run_id,)
        ).fetchall()
    for name, step, value in rows:
        if not any(part in name for part in UNCOMPARED):
            found.setdefault(name, []).append((step, value))
    return found


def _first_difference(theirs: list[tuple[int, float]], ours: list[tuple[int, float]]) -> str:
    for one, other in zip(theirs, ours, strict=False):
        if one != other:
            return f"{other} instead of {one}"
    return f"{len(ours)} points instead of {len(theirs)}"
