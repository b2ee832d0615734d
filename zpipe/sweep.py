"""A multirun: one parent run in MLflow, a line for each point at the end.

Hydra's launchers start the points, possibly in other processes or on other machines; what they share
is the sweep folder: `sweep.json` (written here before the first point) and each point's result.json.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from zpipe.exits import Exit
from zpipe.outcome import Outcome, read_outcome
from zpipe.plan import write_json

FILE_NAME = "sweep.json"

exit_code = Exit.FINISHED
"""Of the sweep that ran in this process."""


class SweepCallback(Callback):
    """Hydra calls it around a multirun; in a single run it does nothing."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        folder = Path(config.hydra.sweep.dir).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        overrides = list(config.hydra.overrides.task)
        run_id = _open_parent(config, folder, overrides)
        write_json(folder / FILE_NAME, {"overrides": overrides, "mlflow_run_id": run_id})

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        global exit_code
        from zpipe.report import print_sweep

        folder = Path(config.hydra.sweep.dir).absolute()
        points = read_points(folder)
        failed = [point for point in points if point["ending"] != "finished"]
        exit_code = Exit.SWEEP_INCOMPLETE if failed or not points else Exit.FINISHED
        write_json(folder / "points.json", points)
        print_sweep(points)
        _close_parent(config, folder, "FAILED" if exit_code else "FINISHED")


def parent_run_id(sweep_dir: Path) -> str | None:
    """The MLflow run that the points of this sweep belong to."""
    file = sweep_dir / FILE_NAME
    if not file.is_file():
        return None
    value = json.loads(file.read_text())["mlflow_run_id"]
    return None if value is None else str(value)


def read_points(sweep_dir: Path) -> list[dict[str, Any]]:
    """One entry for each point that was started, in the order of their numbers."""
    folders = [file.parent.parent for file in sweep_dir.glob("*/.hydra/overrides.yaml")]
    return [_point(folder) for folder in sorted(folders, key=_number)]


def _number(folder: Path) -> tuple[int, str]:
    return (int(folder.name), "") if folder.name.isdigit() else (1 << 30, folder.name)


def _point(folder: Path) -> dict[str, Any]:
    overrides = OmegaConf.to_container(OmegaConf.load(folder / ".hydra" / "overrides.yaml"))
    assert isinstance(overrides, list)
    outcome = read_outcome(folder)
    settings = {key: value.strip("'") for key, _, value in (str(text).partition("=") for text in overrides)}
    return {"folder": str(folder), "settings": settings, **_figures(outcome)}


def _figures(outcome: Outcome | None) -> Mapping[str, Any]:
    if outcome is None:
        return {"ending": "failed", "reason": "the point was never finished", "summary": {}}
    return {"ending": outcome.ending, "reason": outcome.reason, "summary": outcome.summary}


def _open_parent(config: DictConfig, folder: Path, overrides: list[str]) -> str | None:
    if not config.tracking.enabled:
        return None
    from zpipe.record.recorder import open_parent_run
    from zpipe.record.store import tracking_uri

    swept = [text.partition("=")[0] for text in overrides if "," in text or "(" in text]
    return open_parent_run(
        tracking_uri(config.tracking.uri),
        config.tracking.experiment,
        name=f"sweep of {', '.join(swept) or folder.name}",
        tags={"zpipe.sweep_dir": str(folder), "zpipe.overrides": " ".join(overrides)},
        artifacts=[],
    )


def _close_parent(config: DictConfig, folder: Path, status: str) -> None:
    run_id = parent_run_id(folder)
    if run_id is None:
        return
    from zpipe.record.recorder import close_run
    from zpipe.record.store import tracking_uri

    close_run(tracking_uri(config.tracking.uri), run_id, status, artifacts=[folder / "points.json"])
