"""Opens MLflow's client with quiet defaults, and classifies its failures."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from zpipe.problems import Refusal
from zpipe.record.errors import StoreUnreachable
from zpipe.redact import redact, redact_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient

_ENVIRONMENT = {
    # MLflow sends usage data by default, which users of a training tool do not expect.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # By default MLflow retries a dead server for minutes. The recorder retries instead, and can be stopped.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
"""Defaults for MLflow in this process; variables that the user exported take precedence."""

_PERMANENT = frozenset(
    {
        "BAD_REQUEST",
        "CUSTOMER_UNAUTHORIZED",
        "ENDPOINT_NOT_FOUND",
        "INVALID_PARAMETER_VALUE",
        "INVALID_STATE",
        "NOT_IMPLEMENTED",
        "PERMISSION_DENIED",
        "RESOURCE_ALREADY_EXISTS",
        "RESOURCE_DOES_NOT_EXIST",
        "UNAUTHENTICATED",
    }
)

_MAX_LENGTH = 300
"""Characters of a reported failure."""


def silence_mlflow() -> None:
    """Keeps MLflow from printing into the progress display. Call this before MLflow is imported."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # These loggers print tracebacks and retries of failures that the recorder handles and reports.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)


def open_client(uri: str) -> "MlflowClient":
    """A client for the tracking URI. Imports MLflow on first use, which takes about two seconds."""
    silence_mlflow()
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


@contextmanager
def reporting_failures(uri: str) -> Iterator[None]:
    """Turns failures of MLflow, of a database or of the network into StoreUnreachable."""
    try:
        yield
    except Exception as error:
        if not _is_store_failure(error):
            raise
        raise StoreUnreachable(f"cannot use {redact_uri(uri)}: {redact(_cause(error), uri)}") from error


def _is_store_failure(error: Exception) -> bool:
    """Compares names of packages, because importing MLflow takes seconds."""
    packages = {each.__module__.partition(".")[0] for each in type(error).__mro__}
    return isinstance(error, ImportError | OSError) or not packages.isdisjoint({"mlflow", "sqlalchemy"})


def _cause(error: BaseException) -> str:
    """The message of the operating system if it caused the error, otherwise the first line of the error."""
    root = error
    while (inner := root.__cause__ or root.__context__) is not None:
        root = inner
    reason = root.strerror if isinstance(root, OSError) else None
    return (reason or str(error).strip() or type(error).__name__).splitlines()[0][:_MAX_LENGTH]


def is_transient(error: Exception) -> bool:
    """Whether a later attempt may succeed: a busy or dead server, a locked file, a full disk."""
    if isinstance(error, Refusal | ImportError):
        return False
    if isinstance(error, OSError):
        return not isinstance(error, FileNotFoundError | PermissionError)
    code = getattr(error, "error_code", None)
    if code is None:
        # SQLAlchemy raises these when it cannot reach a database. Comparing names avoids importing it.
        return type(error).__name__ in ("OperationalError", "InterfaceError")
    return code not in _PERMANENT
