"""Finds the data files of a run: of a file, a folder, `save_to_disk` or Python's standard library."""

import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from zpipe.data.folders import files_below
from zpipe.data.machine_errors import reraise_machine_error
from zpipe.data.refusals import data_path_refusal
from zpipe.data.saved import is_saved, saved_files
from zpipe.data.sniffing import ARCHIVES, why_no_data_file
from zpipe.data.splits import TRAIN, by_split, canonical
from zpipe.paths import expanded
from zpipe.problems import Problem, Refusal, nearest
from zpipe.schema.data import Data

Reader = Literal["json", "csv", "parquet", "arrow", "text", "stdlib"]
READERS: dict[str, Reader] = {
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".txt": "text",
    ".text": "text",
}
"""How files are read, by their suffix in lower case."""

DESCRIPTIONS = ("config.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
"""Files beside the data that describe it."""

STDLIB_BYTES = 8_000_000
STDLIB_SKIPPED = {"site-packages", "dist-packages", "test", "tests", "__pycache__"}


@dataclass(frozen=True)
class Source:
    """Files of one format."""

    reader: Reader
    files: tuple[Path, ...]
    given: str | None = None
    """`data.path` as the user wrote it."""
    left_out: tuple[Path, ...] = ()
    """Data files of the folder that belong to other splits."""
    other_folders: tuple[Path, ...] = ()
    """Folders in it whose files are not data: those of models, runs, sweeps and MLflow."""

    def stamp(self) -> list[list[Any]]:
        """Absolute path, size in bytes and modification time in ns of each file, to detect changes."""
        stats = ((file.resolve(), file.stat()) for file in self.files)
        return [[str(file), stat.st_size, stat.st_mtime_ns] for file, stat in stats]


def local_source(data: Data) -> Source | None:
    """The files of `data`, or None if its path is a hub id. Raises Refusal if there are no usable files."""
    if data.source == "python_stdlib":
        require_train(data, "Python's standard library has no splits")
        return Source("stdlib", tuple(_stdlib_files()))
    if not data.path:
        raise data_path_refusal(data.path, "not set" if data.path is None else "is empty")
    try:
        return _at(expanded(data.path), data)
    except OSError as error:  # a name that is too long, a folder that may not be listed
        reraise_machine_error(error)
        raise data_path_refusal(data.path, f"cannot be read: {error.strerror}") from None


def _at(path: Path, data: Data) -> Source | None:
    if path.is_dir():
        return _folder(path, data)
    if path.exists() or path.is_symlink():
        return _file(path, data)
    if is_written_as_path(str(data.path)):
        raise data_path_refusal(data.path, f"no such file or folder{_suggestion(path)}")
    return None


def is_written_as_path(text: str) -> bool:
    """Whether a name that does not exist is meant as a path, and not as a hub id such as org/name."""
    path = Path(text)
    known = path.suffix.lower() in (*READERS, *ARCHIVES)
    return known or text.startswith(("/", ".", "~")) or text.count("/") > 1 or not _may_be_hub_id(text)


def _may_be_hub_id(text: str) -> bool:
    parts = text.split("/")
    return all(
        part[:1].isalnum() and part.replace("-", "").replace(".", "").replace("_", "").isalnum()
        for part in parts
    )


def _folder(path: Path, data: Data) -> Source:
    if is_saved(path):
        files = saved_files(path, data)
        return Source("arrow", tuple(files), data.path)
    every, other_folders = files_below(path)
    found = [file for file in every if _is_data(file)]
    if not found:
        raise data_path_refusal(data.path, f"the folder contains no data files{_without_archives(path)}")
    for file in found:
        reason = why_no_data_file(file)
        if reason:
            raise data_path_refusal(data.path, f"{file} {reason}")
    files, left_out = _of_split([file.relative_to(path) for file in found], path, data)
    readers = sorted({READERS[file.suffix.lower()] for file in files})
    if len(readers) > 1:
        reason = f"the folder contains files of several formats: {', '.join(readers)}"
        raise data_path_refusal(
            data.path, reason, allowed="files of one format", fix="data.path=/path/to/folder"
        )
    return Source(readers[0], tuple(files), data.path, tuple(left_out), tuple(other_folders))


def _is_data(file: Path) -> bool:
    is_hidden = file.name.startswith(".")
    return file.suffix.lower() in READERS and file.name not in DESCRIPTIONS and not is_hidden


def _of_split(names: list[Path], folder: Path, data: Data) -> tuple[list[Path], list[Path]]:
    """The files of the wanted split, and the others."""
    groups = by_split(names)
    wanted = canonical(data.split)
    if wanted not in groups:
        splits = sorted(name for name in groups if name)
        raise Refusal(
            [
                Problem(
                    "data.split",
                    data.split,
                    f"the names of the files in {data.path} tell the splits {', '.join(splits)} alone",
                    ", ".join(splits),
                    ", or ".join(f"data.split={name}" for name in splits),
                )
            ]
        )
    others = [folder / file for name, files in groups.items() if name != wanted for file in files]
    return [folder / file for file in groups[wanted]], sorted(others)


def _file(path: Path, data: Data) -> Source:
    reason = why_no_data_file(path)
    if reason:
        raise data_path_refusal(data.path, reason)
    suffix = path.suffix.lower()
    if suffix in ARCHIVES:
        raise data_path_refusal(data.path, f"compressed ({suffix}): extract it first", fix=_extracted(path))
    if suffix not in READERS:
        raise data_path_refusal(data.path, f"unsupported file type {suffix or '(no suffix)'}")
    if path.stat().st_size == 0:
        raise data_path_refusal(data.path, "the file is empty")
    require_train(data, "acts on hub data sets and on folders whose files name their split, not on one file")
    return Source(READERS[suffix], (path,), data.path)


def require_train(data: Data, reason: str) -> None:
    if data.split != TRAIN:
        raise Refusal([Problem("data.split", data.split, reason, TRAIN, f"data.split={TRAIN}")])


def _extracted(path: Path) -> str:
    inner = path.with_suffix("")
    return f"data.path={inner if inner.suffix.lower() in READERS else '/path/to/train.jsonl'}"


def _without_archives(folder: Path) -> str:
    archive = next((file for file in sorted(folder.rglob("*")) if file.suffix.lower() in ARCHIVES), None)
    return f"; {archive.name} must be extracted first" if archive else ""


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
