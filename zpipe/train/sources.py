"""Where the examples come from: files, a hub id or the standard library, read into one table.

Whatever is wrong with the user's data is found here and refused with its place.
"""

import glob
import json
import re
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zpipe.problems import Problem, Refusal, nearest
from zpipe.schema.data import Data
from zpipe.train.machine_errors import raise_if_machine
from zpipe.train.tokens import first_line, hub_error

READERS = {
    ".jsonl": "json",
    ".json": "json",
    ".csv": "csv",
    ".parquet": "parquet",
    ".txt": "text",
    ".text": "text",
}
"""The builder of `datasets` for each suffix."""

TEXT_COLUMNS = ("text", "prompt", "completion")

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
STDLIB_BYTES = 8_000_000
STDLIB_SKIPPED = {"site-packages", "dist-packages", "test", "tests", "__pycache__"}


@dataclass(frozen=True)
class Source:
    """A set of files of one format."""

    reader: str
    files: tuple[Path, ...]

    def stamp(self) -> list[list[Any]]:
        """Changes whenever a file does: whole path, size in bytes, time of change in ns."""
        stats = ((file.resolve(), file.stat()) for file in self.files)
        return [[str(file), stat.st_size, stat.st_mtime_ns] for file, stat in stats]


def problem(
    value: object, reason: str, *, key: str = "data.path", allowed: str = "", fix: str = ""
) -> Refusal:
    """A Refusal with one Problem, about the data unless `key` says otherwise."""
    return Refusal([Problem(key=key, value=value, reason=reason, allowed=allowed, fix=fix)])


def local_source(data: Data) -> Source | None:
    """The files that `data` means, or None when it means a hub id. Raises Refusal if nothing is there."""
    if data.source == "python_stdlib":
        return Source("stdlib", tuple(_stdlib_files()))
    if data.path is None:
        raise problem(None, "nothing to train on was given", fix="data.path=/path/to/train.jsonl")
    path = Path(data.path).expanduser()
    if path.is_dir():
        return _folder(path, data.path)
    if path.is_file():
        return _file(path, data.path)
    if path.suffix in READERS or not HUB_ID.fullmatch(data.path):
        raise problem(data.path, f"no such file or folder{_near(path)}")
    return None


def read(source: Source, data: Data) -> Any:
    """The examples as a `datasets.Dataset`; raises Refusal for empty or broken files."""
    import datasets

    if source.reader == "stdlib":
        texts = [file.read_text(errors="replace") for file in source.files]
        return datasets.Dataset.from_dict({"text": texts})
    files = [_exactly(file, data) for file in source.files]
    try:
        options = _options(source)
        rows = datasets.load_dataset(source.reader, data_files=files, split="train", **options)
    except Exception as error:
        raise_if_machine(error)
        raise _unreadable(source, data, error) from error
    if len(rows) == 0:
        raise problem(data.path, "it holds no examples")
    return _dates_as_written(rows, source) if source.reader == "json" else rows


def read_hub(data: Data) -> Any:
    """The hub's data set as a `datasets.Dataset`; raises Refusal when it cannot be had."""
    import datasets

    try:
        return datasets.load_dataset(data.path, split=data.split)
    except Exception as error:
        raise_if_machine(error)
        raise problem(
            data.path,
            "it is no file or folder here, and the hub's data set of that name cannot be loaded "
            f"({type(error).__name__}: {hub_error(error)})",
            allowed="a .jsonl, .json, .csv, .parquet or .txt file, a folder of such, or a hub id online",
            fix="data.path=/path/to/train.jsonl",
        ) from error


def _exactly(file: Path, data: Data) -> str:
    """The pattern that means this file alone: `datasets` takes every name for one."""
    if "::" in str(file):
        raise problem(
            data.path,
            f"{file} has :: in its path, which the library that reads it takes for a file in an archive",
            allowed="a path without ::",
            fix="data.path=/another/path/train.jsonl",
        )
    return glob.escape(str(file))


def _options(source: Source) -> dict[str, Any]:
    """A text file is one example; cells of a CSV are texts as they stand, be it None, NA, 12 or true."""
    if source.reader == "text":
        return {"sample_by": "document"}
    if source.reader != "csv":
        return {}
    import datasets
    import pandas as pd  # type: ignore[import-untyped]

    with_cells = next(file for file in source.files if file.stat().st_size)
    texts = {name: datasets.Value("string") for name in pd.read_csv(with_cells, nrows=0).columns}
    return {"features": datasets.Features(texts), "keep_default_na": False}


def _dates_as_written(rows: Any, source: Source) -> Any:
    """Texts of which all look like dates are read as times: puts back what stands in the files."""
    for name in TEXT_COLUMNS:
        if str(getattr(rows.features.get(name), "dtype", "")).startswith("timestamp"):
            texts = [row.get(name) for file in source.files for row in _json_rows(file)]
            written = f"{name} as written"
            rows = rows.add_column(written, texts).remove_columns(name).rename_column(written, name)
    return rows


def _json_rows(file: Path) -> list[dict[str, Any]]:
    text = file.read_text(encoding="utf-8")
    if _is_one_value(file):
        return list(json.loads(text))
    return [json.loads(line) for line in text.split("\n") if line.strip()]


def _folder(path: Path, given: str) -> Source:
    files = sorted(file for file in path.rglob("*") if file.suffix in READERS and _visible(file, path))
    if not files:
        raise problem(given, "the folder holds no data files", allowed=" ".join(READERS))
    readers = sorted({READERS[file.suffix] for file in files})
    if len(readers) > 1:
        raise problem(given, f"the folder mixes formats: {', '.join(readers)}", allowed="files of one format")
    return Source(readers[0], tuple(files))


def _visible(file: Path, folder: Path) -> bool:
    return file.is_file() and not any(part.startswith(".") for part in file.relative_to(folder).parts)


def _file(path: Path, given: str) -> Source:
    reader = READERS.get(path.suffix)
    if reader is None:
        raise problem(given, f"the suffix {path.suffix or '(none)'} is not known", allowed=" ".join(READERS))
    if path.stat().st_size == 0:
        raise problem(given, "the file is empty")
    return Source(reader, (path,))


def _near(path: Path) -> str:
    """What is there instead: ", but /data/train.jsonl exists"; empty if nothing is similar."""
    if not path.parent.is_dir():
        return f"; the folder {path.parent} does not exist either"
    names = nearest(path.name, (entry.name for entry in path.parent.iterdir()), most=1)
    return f", but {path.parent / names[0]} exists" if names else ""


def _unreadable(source: Source, data: Data, error: Exception) -> Refusal:
    """Names the file and the line that broke the reading, if they can be found."""
    if source.reader == "json":
        for file in source.files:
            if not _is_one_value(file) and (broken := broken_line(file)):
                return problem(data.path, broken, allowed="one JSON object on each line")
    cause = error.__cause__ or error
    if not any(file.stat().st_size for file in source.files):
        return problem(data.path, "all of its files are empty")
    return problem(data.path, f"it cannot be read as {source.reader}: {first_line(cause)}")


def broken_line(file: Path) -> str | None:
    """Tells about the first line that is not a JSON object; None when all are. Reads the whole file."""
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


def _is_one_value(file: Path) -> bool:
    """Whether the whole file is one JSON array instead of one object a line."""
    with file.open("rb") as stream:
        return stream.read(64).lstrip().startswith(b"[")


def _stdlib_files() -> Iterator[Path]:
    """Sources of the running interpreter's library in a fixed order, until STDLIB_BYTES are reached."""
    root = Path(sysconfig.get_paths()["stdlib"])
    total = 0
    for file in sorted(root.rglob("*.py")):
        if STDLIB_SKIPPED.intersection(file.relative_to(root).parts):
            continue
        total += file.stat().st_size
        if total > STDLIB_BYTES:
            return
        yield file
