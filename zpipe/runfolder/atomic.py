"""Files that are written atomically, and read back with a clear refusal where they are damaged."""

import json
import os
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from zpipe.problems import Problem, Refusal
from zpipe.schema.base import Group

Model = TypeVar("Model", bound=Group)


def write_json(path: Path, value: Any) -> Path:
    """Writes JSON atomically: a reader sees the old file or the new one."""
    return write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> Path:
    """Writes a text file atomically: a reader sees the old file or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    # A surrogate from a file name that is not UTF-8 would make the whole file unwritable.
    temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
    temporary.replace(path)
    return path


def read_model(kind: type[Model], file: Path, what: str, allowed: str) -> Model:
    """Reads a JSON file that zpipe wrote. Raises Refusal if it is missing, damaged or of another version."""
    try:
        return kind.model_validate_json(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = f"cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8'}"
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        reason = f"not a {what} of this version of zpipe: {where}: {first['msg']}"
    raise Refusal([Problem(what, str(file), reason, allowed)])
