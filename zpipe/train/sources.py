"""Finds the data files of a run: a file, a folder or Python's standard library."""

import re
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zpipe.problems import nearest
from zpipe.schema.data import Data
from zpipe.train.refusals import data_path_refusal

READERS = {
    ".jsonl": "json",
    ".json": "json",
    ".csv": "csv",
    ".parquet": "parquet",
    ".txt": "text",
    ".text": "text",
}
"""The builder of `datasets` for each suffix."""

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
STDLIB_BYTES = 8_000_000
STDLIB_SKIPPED = {"site-packages", "dist-packages", "test", "tests", "__pycache__"}


@dataclass(frozen=True)
class Source:
    """Files of one format."""

    reader: str
    """A value of READERS, or "stdlib"."""
    files: tuple[Path, ...]

    def stamp(self) -> list[list[Any]]:
        """Absolute path, size in bytes and modification time in ns of each file, to detect changes."""
        stats = ((file.resolve(), file.stat()) for file in self.files)
        return [[str(file), stat.st_size, stat.st_mtime_ns] for file, stat in stats]


def local_source(data: Data) -> Source | None:
    """The files of `data`, or None if its path is a hub id. Raises Refusal if there are no usable files."""
    if data.source == "python_stdlib":
        return Source("stdlib", tuple(_stdlib_files()))
    if data.path is None:
        raise data_path_refusal(None, "no training data is given")
    path = Path(data.path).expanduser()
    if path.is_dir():
        return _folder(path, data.path)
    if path.is_file():
        return _file(path, data.path)
    if path.suffix in READERS or not HUB_ID.fullmatch(data.path):
        raise data_path_refusal(data.path, f"no such file or folder{_suggestion(path)}")
    return None


def _folder(path: Path, given: str) -> Source:
    files = sorted(file for file in path.rglob("*") if file.suffix in READERS and _is_visible(file, path))
    if not files:
        raise data_path_refusal(given, "the folder contains no data files")
    readers = sorted({READERS[file.suffix] for file in files})
    if len(readers) > 1:
        reason = f"the folder contains files of several formats: {', '.join(readers)}"
        raise data_path_refusal(given, reason, allowed="files of one format", fix="data.path=/path/to/folder")
    return Source(readers[0], tuple(files))


def _is_visible(file: Path, folder: Path) -> bool:
    return file.is_file() and not any(part.startswith(".") for part in file.relative_to(folder).parts)


def _file(path: Path, given: str) -> Source:
    reader = READERS.get(path.suffix)
    if reader is None:
        raise data_path_refusal(given, f"unknown file type {path.suffix or '(no suffix)'}")
    if path.stat().st_size == 0:
        raise data_path_refusal(given, "the file is empty")
    return Source(reader, (path,))


def _suggestion(path: Path) -> str:
    """A similar existing path, as ", but /data/train.jsonl exists"; empty if there is none."""
    if not path.parent.is_dir():
        return f"; the folder {path.parent} does not exist either"
    names = nearest(path.name, (entry.name for entry in path.parent.iterdir()), most=1)
    return f", but {path.parent / names[0]} exists" if names else ""


def _stdlib_files() -> Iterator[Path]:
    """Source files of the interpreter's standard library in a fixed order, up to STDLIB_BYTES in total."""
    root = Path(sysconfig.get_paths()["stdlib"])
    total = 0
    for file in sorted(root.rglob("*.py")):
        if STDLIB_SKIPPED.intersection(file.relative_to(root).parts):
            continue
        total += file.stat().st_size
        if total > STDLIB_BYTES:
            return
        yield file
