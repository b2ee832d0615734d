"""The files below a folder of data, without those of runs, sweeps and MLflow that zpipe has written there."""

import os
from pathlib import Path

_WRITTEN = (("plan.json", "ds_config.json"), ("sweep.json", "ledger.jsonl"))
"""What the folder of a run, and that of a sweep, has."""
_STORE, _ARTIFACTS = "mlflow.db", "mlartifacts"


def files_below(folder: Path) -> tuple[list[Path], list[Path]]:
    """All files, ordered, without those in hidden folders; and the folders of zpipe that are left out."""
    files: list[Path] = []
    left_out: list[Path] = []
    for name, folders, names in os.walk(folder):
        place = Path(name)
        if place != folder and _is_written_by_zpipe(names):
            left_out.append(place)
            folders.clear()
            continue
        if _STORE in names and _ARTIFACTS in folders:
            left_out.append(place / _ARTIFACTS)
            folders.remove(_ARTIFACTS)
        folders[:] = [each for each in folders if not each.startswith(".")]
        files += [place / each for each in names]
    return sorted(files), sorted(left_out)


def _is_written_by_zpipe(names: list[str]) -> bool:
    return any(set(marks) <= set(names) for marks in _WRITTEN)
