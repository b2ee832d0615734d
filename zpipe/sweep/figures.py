"""What the MLflow run of a sweep says about its points: how many, the best one, and what was swept."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from zpipe.record.sweeps import SweepFigures
from zpipe.runfolder.figures import compared_loss
from zpipe.sweep.ledger import Attempt


def sweep_figures(points: Sequence[Attempt]) -> SweepFigures:
    """Counts, the loss and the settings of the best point, and the values of each swept key."""
    counts = {
        "sweep/points": float(len(points)),
        "sweep/settled": float(sum(point.is_settled for point in points)),
        "sweep/finished": float(sum(point.ending == "finished" for point in points)),
    }
    finished = [point for point in points if point.ending == "finished"]
    loss = compared_loss(point.summary for point in finished)
    rated = [point for point in finished if math.isfinite(point.summary.get(loss, math.nan))]
    if not rated:
        return SweepFigures(counts, _swept_values(points), {})
    best = min(rated, key=lambda point: point.summary[loss])
    settings = ", ".join(f"{key}={value}" for key, value in best.settings.items())
    tags = {"zpipe.best_point": Path(best.folder).name, "zpipe.best_settings": settings}
    return SweepFigures(
        {**counts, f"sweep/best_{loss}": float(best.summary[loss])}, _swept_values(points), tags
    )


def _swept_values(points: Iterable[Attempt]) -> dict[str, str]:
    values: dict[str, dict[str, None]] = {}
    for point in points:
        for key, value in point.settings.items():
            values.setdefault(key, {})[str(value)] = None
    return {key: ", ".join(each) for key, each in values.items() if len(each) > 1}
