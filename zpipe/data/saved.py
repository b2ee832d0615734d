"""Folders that `save_to_disk` of `datasets` wrote: Arrow files, listed in state.json.

Upstream: datasets/arrow_dataset.py (save_to_disk), datasets/dataset_dict.py.
"""

import json
from pathlib import Path, PurePath
from typing import Any

from zpipe.data.refusals import data_path_refusal
from zpipe.problems import Problem, Refusal
from zpipe.schema.data import Data

STATE, SPLITS = "state.json", "dataset_dict.json"


def is_saved(folder: Path) -> bool:
    """Whether the folder is a data set of `save_to_disk`, or several splits of one."""
    has_table = (folder / STATE).is_file() and any(folder.glob("*.arrow"))
    return has_table or (folder / SPLITS).is_file()


def saved_files(folder: Path, data: Data) -> list[Path]:
    """Its Arrow files in the order of the data set. Raises Refusal if some are missing."""
    if (folder / SPLITS).is_file():
        folder = folder / _chosen(_names(folder / SPLITS, "splits", data), data)
    elif data.split != "train":
        reason = f"{data.path} is one data set of save_to_disk, without splits"
        raise Refusal([Problem("data.split", data.split, reason, "train", "data.split=train")])
    names = _names(folder / STATE, "_data_files", data)
    files = [folder / PurePath(name).name for name in names]
    missing = next((file for file in files if not file.is_file()), None)
    if missing is not None or not files:
        raise data_path_refusal(data.path, f"incomplete: {missing or folder / '*.arrow'} is missing")
    return files


def _chosen(splits: list[str], data: Data) -> str:
    plain = [name for name in splits if PurePath(name).name == name]
    if data.split in plain:
        return data.split
    reason = f"{data.path} has the splits {', '.join(plain) or '(none)'}"
    fixes = ", or ".join(f"data.split={name}" for name in plain)
    raise Refusal([Problem("data.split", data.split, reason, ", ".join(plain), fixes)])


def _names(file: Path, key: str, data: Data) -> list[str]:
    """A list of names in a JSON file; raises Refusal if it is damaged."""
    try:
        listed: Any = json.loads(file.read_text(encoding="utf-8"))[key]
        return [str(each["filename"] if isinstance(each, dict) else each) for each in listed]
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        reason = f"{file} is not what save_to_disk writes ({type(error).__name__})"
        raise data_path_refusal(data.path, reason) from None
