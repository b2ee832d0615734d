"""Opens MLflow's client with its habits tamed, and tells passing failures from lasting ones."""

import logging
import os
from typing import TYPE_CHECKING

from zpipe.problems import Refusal

if TYPE_CHECKING:
    from mlflow import MlflowClient

_ENVIRONMENT = {
    # MLflow reports its use to its makers unless told otherwise; a training tool should not by surprise.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # MLflow would retry a dead server for minutes by itself; the recorder retries, and can be stopped.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
"""Defaults for MLflow in this process; what the user exported prevails."""

_LASTING = frozenset(
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


def silence_mlflow() -> None:
    """Keeps MLflow from printing into the progress display. To be called before MLflow is imported."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # These print tracebacks and retries of failures that the recorder handles and reports itself.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)


def open_client(uri: str) -> "MlflowClient":
    """A client for the tracking URI. Imports MLflow on first use, which takes about two seconds."""
    silence_mlflow()
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def is_passing(error: Exception) -> bool:
    """Whether trying again later may help: a busy or dead server, a locked file, a full disk."""
    if isinstance(error, Refusal | ImportError):
        return False
    if isinstance(error, OSError):
        return not isinstance(error, FileNotFoundError | PermissionError)
    code = getattr(error, "error_code", None)
    if code is None:
        # SQLAlchemy's, when a database cannot be reached; its module need not be imported for that.
        return type(error).__name__ in ("OperationalError", "InterfaceError")
    return code not in _LASTING
