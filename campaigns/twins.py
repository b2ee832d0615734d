"""Compares a run that was broken off and went on with one that was not."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from zpipe.checkpoints.choice import checkpoints_in
from zpipe.checkpoints.manifest import read_manifest
from zpipe.runfolder.folder import RunFolder

UNCOMPARED = (
    "throughput/",
    "memory/",
    "system/",
    "runtime",
    "per_second",
    "tokens_per_sec",
    "samples_per_sec",
)
"""Parts of the names of metrics that measure time or memory."""

Series = dict[str, list[tuple[int, float]]]


def differences(twin: Path, run: Path, store_folder: Path) -> Iterator[str]:
    """What differs between the newest checkpoints, the models and the series in outputs/mlflow.db."""
    yield from _of_checkpoints(twin, run)
    yield from _of_models(twin, run)
    store = store_folder / "outputs" / "mlflow.db"
    ours, theirs = _series(store, run), _series(store, twin)
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


def _of_checkpoints(twin: Path, run: Path) -> Iterator[str]:
    theirs, ours = checkpoints_in(twin), checkpoints_in(run)
    if [folder.name for folder in theirs] != [folder.name for folder in ours]:
        yield f"checkpoints {[each.name for each in ours]} instead of {[each.name for each in theirs]}"
        return
    for one, other in zip(theirs, ours, strict=True):
        pairs = [{entry.path: entry.digest for entry in read_manifest(each).files} for each in (one, other)]
        changed = sorted(path for path in {*pairs[0], *pairs[1]} if pairs[0].get(path) != pairs[1].get(path))
        if changed:
            yield f"{one.name}: {', '.join(changed)}"


def _of_models(twin: Path, run: Path) -> Iterator[str]:
    for file in sorted(RunFolder(twin).model.glob("*.safetensors")):
        other = RunFolder(run).model / file.name
        if not other.is_file() or other.read_bytes() != file.read_bytes():
            yield f"model/{file.name}"


def _series(store: Path, run: Path) -> Series:
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
