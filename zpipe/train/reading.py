"""Reads examples from files or the hub into one table, and refuses data that cannot be read."""

import glob
import json
from pathlib import Path
from typing import Any

from zpipe.problems import Refusal
from zpipe.schema.data import Data
from zpipe.train.machine_errors import reraise_machine_error
from zpipe.train.refusals import data_path_refusal, first_line, hub_message
from zpipe.train.sources import Source

TEXT_COLUMNS = ("text", "prompt", "completion")


def read_files(source: Source, data: Data) -> Any:
    """The examples as a `datasets.Dataset`; raises Refusal for empty or malformed files."""
    import datasets

    if source.reader == "stdlib":
        texts = [file.read_text(encoding="utf-8", errors="replace") for file in source.files]
        return datasets.Dataset.from_dict({"text": texts})
    files = [_escaped(file, data) for file in source.files]
    try:
        options = _options(source)
        rows = datasets.load_dataset(source.reader, data_files=files, split="train", **options)
    except Exception as error:
        reraise_machine_error(error)
        raise _unreadable(source, data, error) from error
    if len(rows) == 0:
        raise data_path_refusal(data.path, "it contains no examples")
    return _restore_dates(rows, source) if source.reader == "json" else rows


def read_hub(data: Data) -> Any:
    """The data set from the hub as a `datasets.Dataset`; raises Refusal if it cannot be loaded."""
    import datasets

    try:
        return datasets.load_dataset(data.path, split=data.split)
    except Exception as error:
        reraise_machine_error(error)
        raise data_path_refusal(
            data.path,
            "it is not a local file or folder, and the data set of this name cannot be loaded from the hub "
            f"({type(error).__name__}: {hub_message(error)})",
        ) from error


def _escaped(file: Path, data: Data) -> str:
    """The path with wildcards escaped, because `datasets` treats every path as a pattern."""
    if "::" in str(file):
        raise data_path_refusal(
            data.path,
            f"the path {file} contains ::, which the library `datasets` treats as a path inside an archive",
            allowed="a path without ::",
            fix="data.path=/another/path/train.jsonl",
        )
    return glob.escape(str(file))


def _options(source: Source) -> dict[str, Any]:
    """Options that read a text file as one example, and CSV cells such as None, NA, 12 or true as text."""
    if source.reader == "text":
        return {"sample_by": "document"}
    if source.reader != "csv":
        return {}
    import datasets
    import pandas as pd  # type: ignore[import-untyped]

    not_empty = next(file for file in source.files if file.stat().st_size)
    columns = {name: datasets.Value("string") for name in pd.read_csv(not_empty, nrows=0).columns}
    return {"features": datasets.Features(columns), "keep_default_na": False}


def _restore_dates(rows: Any, source: Source) -> Any:
    """Restores the original text of dates: `datasets` converts a column of dates to timestamps."""
    for name in TEXT_COLUMNS:
        if str(getattr(rows.features.get(name), "dtype", "")).startswith("timestamp"):
            texts = [row.get(name) for file in source.files for row in _json_rows(file)]
            original = f"{name} as written"
            rows = rows.add_column(original, texts).remove_columns(name).rename_column(original, name)
    return rows


def _json_rows(file: Path) -> list[dict[str, Any]]:
    text = file.read_text(encoding="utf-8")
    if _is_json_array(file):
        return list(json.loads(text))
    return [json.loads(line) for line in text.split("\n") if line.strip()]


def _unreadable(source: Source, data: Data, error: Exception) -> Refusal:
    """A Refusal that names the malformed file and line, if they can be found."""
    if source.reader == "json":
        for file in source.files:
            if not _is_json_array(file) and (reason := malformed_line(file)):
                return data_path_refusal(data.path, reason, allowed="one JSON object per line")
    if not any(file.stat().st_size for file in source.files):
        return data_path_refusal(data.path, "all of its files are empty")
    cause = error.__cause__ or error
    return data_path_refusal(data.path, f"cannot be read as {source.reader}: {first_line(cause)}")


def malformed_line(file: Path) -> str | None:
    """Describes the first line that is not a JSON object; None if all are. Reads the file line by line."""
    with file.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                value = json.loads(line.rstrip("\r\n"))
            except json.JSONDecodeError as error:
                return f"line {number} of {file} is not JSON: {error.msg} at column {error.colno}"
            if not isinstance(value, dict):
                return f"line {number} of {file} is not a JSON object but a {type(value).__name__}"
    return None


def _is_json_array(file: Path) -> bool:
    """Whether the file is one JSON array instead of one object per line."""
    with file.open("rb") as stream:
        return stream.read(64).lstrip().startswith(b"[")
