"""What MLflow's store says about the runs of a test."""

import shutil
from functools import cached_property
from pathlib import Path
from typing import Any


def put_store(file: Path, cwd: Path) -> Path:
    """Gives a folder a copy of this store as its default one, and returns the folder."""
    (cwd / "outputs").mkdir(parents=True)
    shutil.copy(file, cwd / "outputs" / "mlflow.db")
    return cwd


class Store:
    """The default store of a folder in which zpipe was run."""

    def __init__(self, cwd: Path, experiment: str = "zpipe") -> None:
        self.file = cwd / "outputs" / "mlflow.db"
        self._experiment = experiment

    @cached_property
    def client(self) -> Any:
        from mlflow import MlflowClient

        return MlflowClient(f"sqlite:///{self.file}")

    def runs(self) -> list[Any]:
        """Every run of the experiment, oldest first; empty where nothing was recorded."""
        if not self.file.exists():
            return []
        experiment = self.client.get_experiment_by_name(self._experiment)
        return (
            [] if experiment is None else list(reversed(self.client.search_runs([experiment.experiment_id])))
        )

    def only_run(self) -> Any:
        (run,) = self.runs()
        return run

    def series(self, run_id: str, name: str) -> list[tuple[int, float]]:
        points = self.client.get_metric_history(run_id, name)
        return sorted((point.step, point.value) for point in points)

    def artifacts(self, run_id: str) -> set[str]:
        return {artifact.path for artifact in self.client.list_artifacts(run_id)}
