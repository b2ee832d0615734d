"""The files below a folder of data, without those of models, and of runs, sweeps and MLflow of zpipe."""

import os
from pathlib import Path

_WRITTEN = (("plan.json", "ds_config.json"), ("sweep.json", "ledger.jsonl"))
"""What the folder of a run, and that of a sweep, has."""
_MODEL, _WEIGHTS = "config.json", (".safetensors", ".bin")
"""What a model folder has, also that of an export."""
_STORE, _ARTIFACTS = "mlflow.db", "mlartifacts"


def files_below(folder: Path) -> tuple[list[Path], list[Path]]:
    """All files, ordered, without those in hidden folders; and the folders that are left out."""
    files: list[Path] = []
    left_out: list[Path] = []
    for name, folders, names in os.walk(folder):
        place = Path(name)
        if place != folder and _holds_no_data(names):
            left_out.append(place)
            folders.clear()
            continue
        if _STORE in names and _ARTIFACTS in folders:
            left_out.append(place / _ARTIFACTS)
            folders.remove(_ARTIFACTS)
        folders[:] = [each for each in folders if not each.startswith(".")]
        files += [place / each for each in names]
    return sorted(files), sorted(left_out)


def _holds_no_data(names: list[str]) -> bool:
    is_model = _MODEL in names and any(name.endswith(_WEIGHTS) for name in names)
    return is_model or any(set(marks) <= set(names) for marks in _WRITTEN)
