"""Tracking: where MLflow records the run."""

from zpipe.schema.base import Group, Texts


class Tracking(Group):
    """MLflow."""

    uri: str | None = None
    """Tracking URI; null means the sqlite store outputs/mlflow.db."""
    experiment: str = "zpipe"
    """Name of the MLflow experiment."""
    run_name: str | None = None
    """Name of the MLflow run; null lets zpipe say stage, offload and precision."""
    tags: Texts = {}
    """Tags of the MLflow run."""
    enabled: bool = True
    """Whether the run is recorded in MLflow at all."""
