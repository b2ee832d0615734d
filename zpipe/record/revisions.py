"""The schema of an MLflow sqlite store, and the schema that the installed MLflow needs.

MLflow is not imported, which would take seconds. Its alembic scripts are read as text, and the store with the
standard library, so that the check takes milliseconds and is part of `zpipe plan`.
"""

import importlib.util
import re
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import quote

_REVISION = re.compile(r'^revision\s*=\s*"([0-9a-f]+)"', re.MULTILINE)
_PARENT = re.compile(r'^down_revision\s*=\s*"([0-9a-f]+)"', re.MULTILINE)
_BUSY_SECONDS = 20.0


class NotAStoreError(Exception):
    """The file exists, but is not an MLflow store."""


@dataclass(frozen=True)
class Schema:
    """The schema revisions that the installed MLflow knows."""

    head: str
    known: frozenset[str]


@cache
def installed_schema() -> Schema:
    """Reads the revisions of the installed MLflow from its migration scripts. Raises LookupError."""
    try:
        spec = importlib.util.find_spec("mlflow")
    except ValueError:  # its import is blocked
        spec = None
    if spec is None or spec.origin is None:
        raise LookupError("MLflow is not installed")
    scripts = Path(spec.origin).parent / "store" / "db_migrations" / "versions"
    texts = [script.read_text(encoding="utf-8") for script in scripts.glob("*.py")]
    revisions = {match for text in texts for match in _REVISION.findall(text)}
    heads = revisions - {match for text in texts for match in _PARENT.findall(text)}
    if len(heads) != 1:
        raise LookupError(f"MLflow's migration scripts in {scripts} have {len(heads)} heads instead of one")
    return Schema(heads.pop(), frozenset(revisions))


def store_revision(file: Path) -> str | None:
    """The schema revision of a sqlite store; None if the file is absent or has no tables yet.

    Raises NotAStoreError if the file contains anything else.
    """
    if not file.exists():
        return None
    import sqlite3

    try:
        # mode=rw never creates the file, and unlike mode=ro it can recover a file after a crash.
        connection = sqlite3.connect(f"file:{quote(str(file))}?mode=rw", uri=True, timeout=_BUSY_SECONDS)
        with closing(connection):
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
            if not tables:
                return None
            if "alembic_version" not in tables:
                raise NotAStoreError("it is a database without MLflow's tables")
            rows = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    except sqlite3.Error as error:
        raise NotAStoreError(str(error)) from error
    if len(rows) != 1:
        raise NotAStoreError(f"its alembic_version table has {len(rows)} rows instead of one")
    return str(rows[0][0])
