"""Tracking stores: their location, whether the installed MLflow can use them, and their safe creation."""

import errno
import os
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from zpipe.problems import Problem, Refusal, refuse_if_any
from zpipe.record.database import KEY, is_database, outdated, prepare_database
from zpipe.record.revisions import NotAStoreError, installed_schema, store_revision
from zpipe.redact import redact_uri
from zpipe.schema.tracking import Tracking
from zpipe.variables import TRACKING_URI

if TYPE_CHECKING:
    from mlflow import MlflowClient

_OTHER = "tracking.uri=sqlite:///outputs/other.db"
_ELSEWHERE = "tracking.uri=sqlite:////path/to/mlflow.db"
_CREATION_SECONDS = 300.0
"""Timeout for another process that creates the store, which takes seconds, or longer on a busy disk."""
_CREATING = threading.Lock()
"""Alembic, which MLflow's migrations run in, keeps its context in a module: one migration at a time."""
_SQLITE = re.compile(r"^sqlite(?:\+\w+)?://(?:/(?P<path>[^?]*))?(?:\?.*)?$")

_PERMANENT = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EEXIST)
"""Errors of creating a file that a later attempt would meet again; a full disk is not one of them."""

Kind = Literal["sqlite", "database", "server"]


def default_uri(base: Path) -> str:
    """The sqlite store outputs/mlflow.db in the working folder `base`."""
    return f"sqlite:///{base.absolute() / 'outputs' / 'mlflow.db'}"


def tracking_uri(uri: str | None) -> str:
    """The URI to use, by default that of MLFLOW_TRACKING_URI; relative paths start at the current folder."""
    return resolve_uri(uri or os.environ.get(TRACKING_URI) or None, Path.cwd())


def resolve_uri(uri: str | None, base: Path) -> str:
    """The URI to use: the default for None; a relative sqlite path is resolved against `base`.

    Raises Refusal for what is not a URI.
    """
    if uri is None:
        return default_uri(base)
    try:
        urlsplit(uri)
    except ValueError as error:
        raise Refusal([Problem(KEY, redact_uri(uri), f"not a URI: {error}", fix=_OTHER)]) from None
    path = _sqlite_path(uri)
    if path is None or path.is_absolute():
        return uri
    return f"sqlite:///{(base / path).absolute()}"


def sqlite_file(uri: str) -> Path | None:
    """The database file of a sqlite URI, None for any other URI."""
    path = _sqlite_path(uri)
    return None if path is None else path.absolute()


def artifact_root(uri: str, base: Path) -> str | None:
    """The folder for artifacts of new experiments: next to a sqlite file; None lets the server decide."""
    file = sqlite_file(uri)
    if file is not None:
        return str(file.parent / "mlartifacts")
    return None if _kind(uri) == "server" else str(base.absolute() / "outputs" / "mlartifacts")


def tracking_problems(tracking: Tracking) -> list[Problem]:
    """Reasons to refuse the store of a run; none for a run that is not tracked."""
    return check_store(tracking_uri(tracking.uri)) if tracking.enabled else []


def check_store(uri: str) -> list[Problem]:
    """Reasons to refuse this store, found without importing MLflow and without network access."""
    kind = _kind(uri)
    if kind is None:
        return [_unsupported(uri)]
    file = sqlite_file(uri)
    return [] if file is None else _check_sqlite(uri, file)


def prepare_store(uri: str) -> None:
    """Creates the store if necessary. Safe if several processes call it at the same time.

    Raises Refusal (key tracking.uri) if the store cannot be used as it is.
    """
    refuse_if_any(check_store(uri))
    file = sqlite_file(uri)
    if file is not None:
        _prepare_sqlite(uri, file)
    elif _kind(uri) == "database":
        prepare_database(uri)


def ensure_experiment(client: "MlflowClient", uri: str, name: str, base: Path) -> str:
    """The id of the experiment, created if necessary. Safe if several processes call it at the same time."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        root = artifact_root(uri, base)
        location = None if root is None else f"{root}/{_folder_name(name)}"
        try:
            return str(client.create_experiment(name, artifact_location=location))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(name)
    if found is None or found.lifecycle_stage != "active":
        fix = "restore it with `mlflow experiments restore`, or set another tracking.experiment"
        raise Refusal([Problem("tracking.experiment", name, "this experiment was deleted", fix=fix)])
    return str(found.experiment_id)


def _sqlite_path(uri: str) -> Path | None:
    match = _SQLITE.match(uri)
    path = match and match["path"]
    return Path(path) if path and path != ":memory:" else None


def _kind(uri: str) -> Kind | None:
    scheme = uri.partition(":")[0].partition("+")[0].lower()
    if scheme in {"http", "https"} or re.match(r"^databricks(-uc)?(://.*)?$", uri):
        return "server"
    if is_database(uri):
        return "database"
    return "sqlite" if _sqlite_path(uri) is not None else None


def _unsupported(uri: str) -> Problem:
    if uri.startswith("sqlite"):
        reason = "a sqlite store needs a file: a store in memory would be lost after the run"
    else:
        reason = "MLflow 3.17 cannot write to this store; plain folders (./mlruns) are no longer supported"
    allowed = "sqlite:///FILE, http(s)://SERVER, postgresql://, mysql://, mssql://, databricks"
    return Problem(KEY, redact_uri(uri), reason, allowed, "tracking.uri=sqlite:///outputs/mlflow.db")


def _check_sqlite(uri: str, file: Path) -> list[Problem]:
    try:
        found = store_revision(file)
    except NotAStoreError as error:
        return [Problem(KEY, uri, f"{file} is not an MLflow store: {error}", fix=_OTHER)]
    except OSError as error:
        return [Problem(KEY, uri, f"{file} cannot be opened: {error.strerror}", fix=_OTHER)]
    if found is None:
        return []
    try:
        schema = installed_schema()
    except LookupError:  # a machine that only plans
        return []
    if found == schema.head:
        return []
    if found in schema.known:
        return [outdated(uri, f"schema {found}, this MLflow needs {schema.head}")]
    reason = f"the store was created by a newer MLflow (schema {found}, unknown to the installed version)"
    return [Problem(KEY, uri, reason, fix=f"install that version of MLflow, or {_OTHER}")]


def _prepare_sqlite(uri: str, file: Path) -> None:
    from filelock import FileLock  # planning takes no lock

    if store_revision(file) is not None:
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(file.with_name(f"{file.name}.lock"), timeout=_CREATION_SECONDS), _CREATING:
            if store_revision(file) is None:
                _create_sqlite(file)
    except OSError as error:
        if error.errno not in _PERMANENT:
            raise
        reason = f"{file} cannot be created: {error.strerror}"
        raise Refusal([Problem(KEY, uri, reason, "a file in a writable folder", _ELSEWHERE)]) from error
    # In the meantime, a program with another version of MLflow may have created the file.
    refuse_if_any(_check_sqlite(uri, file))


def _create_sqlite(file: Path) -> None:
    """Creates the store under another name first, so that a killed process leaves no partial store.

    MLflow's migrations take dozens of transactions, and a partially migrated store looks like an outdated
    one.
    """
    from zpipe.record.client import silence_mlflow

    silence_mlflow()
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    unfinished = file.with_name(f".{file.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    store = SqlAlchemyStore(f"sqlite:///{unfinished}", str(file.parent / "mlartifacts"))  # type: ignore[no-untyped-call]
    store.engine.dispose()
    unfinished.replace(file)


def _folder_name(experiment: str) -> str:
    """Name of the experiment's artifact folder. It may be shared, because each run has a folder in it."""
    return re.sub(r"[^\w.-]+", "_", experiment).strip(".") or "experiment"
