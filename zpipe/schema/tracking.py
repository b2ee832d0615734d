"""Tracking: where MLflow records the run."""

from zpipe.schema.base import Group, Texts


class Tracking(Group):
    """Recording of the run in MLflow."""

    uri: str | None = None
    """Tracking URI; null means the SQLite store outputs/mlflow.db."""
    experiment: str = "zpipe"
    """Name of the MLflow experiment."""
    run_name: str | None = None
    """Name of the MLflow run; null builds it from stage, offload and precision."""
    tags: Texts = {}
    """Tags of the MLflow run."""
    enabled: bool = True
    """Record the run in MLflow."""
