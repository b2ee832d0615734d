"""The predicted speed against measured runs: benchmarks/speed_points.json has one run in each line."""

import json
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

from tests.support.planning import GIB, experiment_of
from zpipe.facts.facts import gather
from zpipe.machine.hardware import Gpu, Hardware
from zpipe.search.speed import tokens_per_second
from zpipe.search.workload import setup_of, workload_of

POINTS = Path(__file__).parents[2] / "benchmarks" / "speed_points.json"
CORES = 16
"""Of the machine, for each GPU."""


def predicted(point: dict[str, Any]) -> float:
    """Tokens per second of one GPU."""
    card = Gpu(name=point["gpu"], memory=80 * GIB, compute_capability=(9, 0))
    machine = Hardware(gpus=(card,) * point["gpus"], cores=CORES * point["gpus"], memory=200 * GIB)
    experiment = experiment_of(*point["overrides"])
    facts = gather(experiment, machine)
    work = workload_of(experiment, facts)
    assert work is not None
    return tokens_per_second(work, setup_of(experiment, facts)) / work.ranks


@cache
def points() -> tuple[tuple[dict[str, Any], float], ...]:
    return tuple((point, predicted(point)) for point in json.loads(POINTS.read_text()))


def test_half_of_the_runs_are_predicted_within_ten_percent_and_all_within_a_half() -> None:
    errors = [abs(figure / point["tokens_per_second_per_gpu"] - 1) for point, figure in points()]
    assert median(errors) <= 0.10
    assert max(errors) <= 0.5


def test_fastest_run_of_each_model_and_machine_is_predicted_to_be_among_the_fastest() -> None:
    groups: dict[tuple[str, int, str], list[tuple[float, float]]] = {}
    for point, figure in points():
        (model,) = (each for each in point["overrides"] if each.startswith("model="))
        group = groups.setdefault((point["gpu"], point["gpus"], model), [])
        group.append((figure, point["tokens_per_second_per_gpu"]))
    assert len(groups) == 3
    for group in groups.values():
        chosen, best = max(group)[1], max(measured for _, measured in group)
        assert chosen >= 0.98 * best
