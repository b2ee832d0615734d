"""Creates MLflow's tables in a database server, once, however many first users start at the same time."""

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from zpipe.problems import Problem, Refusal
from zpipe.redact import redact, redact_uri

if TYPE_CHECKING:
    from sqlalchemy import Connection

KEY = "tracking.uri"
CREATION_SECONDS = 300.0
"""Timeout for another process that creates the tables."""

_LOCK = {
    "postgresql": ("SELECT 1 FROM pg_advisory_lock(:lock)", "SELECT pg_advisory_unlock(:lock)"),
    "mysql": (f"SELECT GET_LOCK(:lock, {CREATION_SECONDS:.0f})", "SELECT RELEASE_LOCK(:lock)"),
}
"""A lock of the database covers all machines. The server releases it if the connection ends."""

_REJECTED = ("28000", "28P01", "3D000", "42501", "(1044,", "(1045,", "(1049,", "(1698,")
"""How PostgreSQL (SQLSTATE) and MySQL (error numbers) report a wrong user, password or database."""

_WORDS = ("authentication failed", "does not exist", "permission denied", "no pg_hba.conf entry")


def is_database(uri: str) -> bool:
    """Whether the store is a database server, by the scheme of its URI."""
    return re.split("[:+]", uri, maxsplit=1)[0].lower() in ("postgresql", "mysql", "mssql")


def prepare_database(uri: str) -> None:
    """Lets MLflow create its tables. Raises Refusal if it cannot use the database, and the driver's error if
    the server cannot be reached.
    """
    from mlflow.exceptions import MlflowException

    from zpipe.record.client import open_client

    try:
        with _connected(uri) as connection, _locked(connection, uri):
            open_client(uri).search_experiments(max_results=1)
    except ImportError as error:
        reason = f"the database driver is missing: {error}"
        fix = "pip install 'zpipe[databases]' for PostgreSQL and MariaDB or MySQL"
        raise Refusal([Problem(KEY, redact_uri(uri), reason, fix=fix)]) from error
    except MlflowException as error:
        if "out-of-date database schema" not in str(error):
            raise
        raise Refusal([outdated(uri, redact(str(error), uri).partition(". ")[0])]) from None


def require_answer(uri: str) -> None:
    """Connects once to a database server; other stores answer for themselves.

    Raises Refusal if it refuses the connection, and the driver's error if it cannot be reached. MLflow alone
    would try for minutes.
    """
    if is_database(uri):
        with _connected(uri):
            return


def outdated(uri: str, detail: str) -> Problem:
    """The problem of a store that another version of MLflow created."""
    reason = f"the store was created by another version of MLflow ({detail})"
    return Problem(KEY, redact_uri(uri), reason, fix=f"back it up, then: mlflow db upgrade {redact_uri(uri)}")


@contextmanager
def _connected(uri: str) -> Iterator["Connection"]:
    """A connection of its own: MLflow repeats a failing connection for minutes, whatever the reason.

    Raises Refusal if the server rejects the user, the password or the database.
    """
    from sqlalchemy import create_engine
    from sqlalchemy.exc import ArgumentError, OperationalError

    try:
        engine = create_engine(uri, isolation_level="AUTOCOMMIT")
    except (ArgumentError, ValueError) as error:
        reason = f"not a database URL: {redact(str(error).splitlines()[0], uri)}"
        fix = "tracking.uri=postgresql://USER@HOST/NAME"
        raise Refusal([Problem(KEY, redact_uri(uri), reason, fix=fix)]) from None
    try:
        with engine.connect() as connection:
            yield connection
    except OperationalError as error:
        said = redact(str(error.orig), uri).strip()
        if not _is_rejection(
            said, getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)
        ):
            raise
        reason = f"the database server refuses the connection: {said.splitlines()[-1]}"
        allowed = "user, password (percent-encoded) and database that exist on the server"
        raise Refusal([Problem(KEY, redact_uri(uri), reason, allowed)]) from None
    finally:
        engine.dispose()


def _is_rejection(said: str, state: str | None) -> bool:
    return state in _REJECTED or any(each in said for each in (*_REJECTED[4:], *_WORDS))


@contextmanager
def _locked(connection: "Connection", uri: str) -> Iterator[None]:
    """Holds a lock of the database, or of this machine and user where zpipe knows none of the database."""
    from sqlalchemy import text

    digest = hashlib.sha256(f"zpipe {connection.engine.url.database}".encode()).hexdigest()[:15]
    dialect = connection.dialect.name
    if dialect not in _LOCK:
        lock = Path(tempfile.gettempdir()) / f"zpipe-store-{os.getuid()}-{digest}.lock"
        from filelock import FileLock  # planning takes no lock

        with FileLock(lock, timeout=CREATION_SECONDS):
            yield
        return
    take, release = (text(statement) for statement in _LOCK[dialect])
    lock_id = {"lock": int(digest, 16) if dialect == "postgresql" else f"zpipe-{digest}"}
    if connection.execute(take, lock_id).scalar() != 1:
        raise TimeoutError(f"another process has been creating the tables for {CREATION_SECONDS:.0f} s")
    try:
        yield
    finally:
        connection.execute(release, lock_id)
