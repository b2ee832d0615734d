"""Files that are written atomically, and read back with a clear refusal where they are damaged."""

import json
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from zpipe.problems import Problem, Refusal
from zpipe.runfolder.foreign_files import read_text
from zpipe.schema.base import Group


@cache
def _umask() -> int:
    """Of this process; it can only be read by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


Model = TypeVar("Model", bound=Group)


def write_json(path: Path, value: Any) -> Path:
    """Writes JSON atomically: a reader sees the old file or the new one."""
    return write_text(path, json_text(value))


def json_text(value: Any) -> str:
    """JSON as zpipe writes it into files."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def write_text(path: Path, text: str) -> Path:
    """Writes a text file atomically: a reader sees the old file or the new one."""
    # The name is new and opened exclusively: whatever a foreign folder holds is neither followed nor reused.
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name[:64]}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), 0o666 & ~_umask())
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return path


def read_model(kind: type[Model], file: Path, what: str, allowed: str) -> Model:
    """Reads a JSON file that zpipe wrote. Raises Refusal if it is missing, damaged or of another version."""
    try:
        return kind.model_validate_json(read_text(file))
    except (OSError, UnicodeDecodeError) as error:
        reason = f"cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8'}"
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        reason = f"not a {what} of this version of zpipe: {where}: {first['msg']}"
    except RecursionError:
        reason = f"not a {what} of this version of zpipe: nested too deeply"
    raise Refusal([Problem(what, str(file), reason, allowed)])
