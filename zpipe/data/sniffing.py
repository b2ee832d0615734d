"""What a file is by its first bytes, where its name says something else."""

import os
import shlex
import stat
from pathlib import Path

HEAD_BYTES = 4096
ARCHIVES = (".gz", ".zip", ".bz2", ".xz", ".zst", ".7z", ".lz4", ".rar", ".tar", ".tgz")
_COMPRESSED = (
    (b"\x1f\x8b", "gzip", "gunzip -c FILE > NEW"),
    (b"PK\x03\x04", "a ZIP archive", "unzip FILE"),
    (b"BZh", "bzip2", "bunzip2 -c FILE > NEW"),
    (b"\xfd7zXZ\x00", "xz", "unxz -c FILE > NEW"),
    (b"\x28\xb5\x2f\xfd", "zstd", "unzstd FILE -o NEW"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "7z x FILE"),
    (b"\x04\x22\x4d\x18", "lz4", "unlz4 FILE NEW"),
    (b"Rar!\x1a\x07", "a RAR archive", "unrar x FILE"),
)
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_TABLES = {"parquet": (b"PAR1", b"PARE")}
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def why_no_data_file(file: Path) -> str | None:
    """Why the path cannot be read as a file; None if it can. Opens nothing: a FIFO would block."""
    try:
        mode = file.stat().st_mode
    except FileNotFoundError:
        return "is a link to nothing" if file.is_symlink() else "no such file"
    except OSError as error:
        return f"cannot be read: {os.strerror(error.errno or 0)}"
    if not stat.S_ISREG(mode):
        return f"is {_kind(mode)}, not a regular file"
    return None if os.access(file, os.R_OK) else "cannot be read: permission denied"


def why_not_text(file: Path) -> tuple[str, str] | None:
    """Why the content is not UTF-8 text, and a remedy, judged by its first bytes; None if it may be."""
    head = _head(file)
    for magic, kind, command in _COMPRESSED:
        if head.startswith(magic):
            return f"{file} is compressed: it is {kind}", f"extract it first: {_command(command, file)}"
    if head.startswith(_UTF_16):
        return f"{file} is UTF-16", _command("iconv -f UTF-16 -t UTF-8 FILE > NEW", file)
    if head.startswith(_LFS_POINTER):
        return f"{file} is only a pointer of git-lfs", "git lfs pull"
    if b"\x00" in head:
        return f"{file} is binary: it has NUL bytes", "data.path=/path/to/train.jsonl"
    return None


def why_no_table(file: Path, kind: str) -> str | None:
    """Why the content is not a table of this format, judged by its first bytes; None if it may be."""
    head = _head(file)
    if head.startswith(_LFS_POINTER):
        return f"{file} is only a pointer of git-lfs: git lfs pull"
    if kind in _TABLES and not head.startswith(_TABLES[kind]):
        return f"{file} is not a {kind} file"
    return None


def is_lfs_pointer(file: Path) -> bool:
    """Whether git-lfs left a pointer in place of the content."""
    return _head(file).startswith(_LFS_POINTER)


def not_utf8(file: Path, error: UnicodeDecodeError, line: int) -> tuple[str, str]:
    """The reason and the remedy for text in another encoding."""
    byte = error.object[error.start]
    reason = f"line {line} of {file} is not UTF-8: byte 0x{byte:02x} at position {error.start + 1}"
    return reason, _command("iconv -f LATIN1 -t UTF-8 FILE > NEW", file)


def _head(file: Path) -> bytes:
    with file.open("rb") as stream:
        return stream.read(HEAD_BYTES)


def _command(command: str, file: Path) -> str:
    new = file.with_name(f"new-{file.name}").with_suffix("" if file.suffix in ARCHIVES else file.suffix)
    return command.replace("FILE", shlex.quote(str(file))).replace("NEW", shlex.quote(str(new)))


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a folder"
    if stat.S_ISFIFO(mode):
        return "a named pipe"
    return "a socket" if stat.S_ISSOCK(mode) else "a device"
