"""Holds the memory model against measured runs, and keeps those runs.

    python -m benchmarks.points_server benchmarks/points/one_card.json OUT.jsonl     on a machine with a GPU
    python -m benchmarks.memory add OUT.jsonl H200        adds the runs to benchmarks/memory_points.jsonl
    python -m benchmarks.memory                           prints a table, and draws docs/memory-errors.svg

A run of the file replaces one of the same name. A test holds the model against the file without a GPU.
Runs whose layers had been compiled before have no `host_gib`: the prediction is that of a first compilation.
"""

import argparse
import json
from pathlib import Path
from statistics import median
from typing import Any

from tests.support.planning import GIB, plan_of
from zpipe.machine.hardware import Gpu, Hardware
from zpipe.memory.host import FILES_OF_LIBRARIES

POINTS = Path(__file__).with_name("memory_points.jsonl")
PLOT = Path(__file__).parents[1] / "docs" / "memory-errors.svg"
CARDS = {
    "H100": Gpu(name="NVIDIA H100 80GB HBM3", memory=81_559 * 2**20, compute_capability=(9, 0)),
    "H200": Gpu(name="NVIDIA H200", memory=143_771 * 2**20, compute_capability=(9, 0)),
}
FIGURES = ("allocated_gib", "reserved_gib", "host_gib")
TITLES = {
    "allocated_gib": "GPU, allocated",
    "reserved_gib": "GPU, reserved",
    "host_gib": "host",
    "host_gib, cpu": "host without a GPU",
}
"""Of the errors, by figure."""
_NOT_PART_OF_IT = ("tracking", "+launcher.env", "hydra.run.dir", "offload.nvme_path")


def add(results: Path, card: str | None) -> None:
    """Adds what benchmarks.points_server measured, without runs that failed or were traced."""
    kept = {point["name"]: point for point in read_points()}
    for line in results.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row.get("refused") or any(row["codes"]) or "trace" in row["name"]:
            continue
        name = row["name"] if card is not None else f"cpu {row['name']}"
        kept[name] = {**_point(row), "name": name, "gpu": card}
    text = "".join(f"{json.dumps(each)}\n" for _, each in sorted(kept.items()))
    POINTS.write_text(text, encoding="utf-8")
    print(f"{len(kept)} runs in {POINTS}")


def _point(row: dict[str, Any]) -> dict[str, Any]:
    summary, ranks = row["summary"], row["ranks"]
    host = summary.get("memory/host_peak_all_ranks_gib", summary["memory/host_peak_gib"])
    measured = {"host_gib": round(host, 3), "tokens_per_sec": round(summary["tokens_per_sec"])}
    if ranks[0].get("peak_allocated"):
        for name in ("allocated", "reserved"):
            measured[f"{name}_gib"] = round(max(rank[f"peak_{name}"] for rank in ranks) / GIB, 3)
        measured["outside_gib"] = round(max(rank["outside"] for rank in ranks) / GIB, 3)
    overrides = [each for each in row["overrides"] if not each.startswith(_NOT_PART_OF_IT)]
    return {"overrides": overrides, "world_size": row["world_size"], "measured": measured}


def read_points() -> list[dict[str, Any]]:
    if not POINTS.is_file():
        return []
    return [json.loads(line) for line in POINTS.read_text(encoding="utf-8").splitlines()]


def predicted(point: dict[str, Any]) -> dict[str, float]:
    """The same figures in GiB, of forked ranks, which do not have the files of the libraries in memory."""
    card, count = point["gpu"], point["world_size"]
    hardware = Hardware(gpus=() if card is None else (CARDS[card],) * count, cores=16, memory=2**50)
    memory = plan_of(*point["overrides"], "memory.check=warn", hardware=hardware).memory
    assert memory is not None
    assert memory.host is not None
    forked = memory.host.node - memory.host.ranks * FILES_OF_LIBRARIES
    figures = {"host_gib": forked / GIB}
    if memory.gpu is not None:
        figures |= {
            "allocated_gib": memory.gpu.allocated.total / GIB,
            "reserved_gib": memory.gpu.reserved / GIB,
        }
    return figures


def errors(points: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Relative errors of the predictions, by figure and run."""
    found: dict[str, dict[str, float]] = {figure: {} for figure in TITLES}
    for point in points:
        measured = point["measured"]
        for figure, value in predicted(point).items():
            if figure in measured:
                kind = figure if point["gpu"] is not None else f"{figure}, cpu"
                found[kind][point["name"]] = value / measured[figure] - 1
    return found


def show(points: list[dict[str, Any]]) -> None:
    found = errors(points)
    print("| run | GPUs | reserved, GiB | allocated | reserved | host |")
    print("|---|---|---:|---:|---:|---:|")
    for point in points:
        name = point["name"]
        figures = FIGURES if point["gpu"] is not None else (*FIGURES[:2], "host_gib, cpu")
        cells = [f"{found[each][name]:+.1%}" if name in found[each] else "-" for each in figures]
        reserved = point["measured"].get("reserved_gib", "-")
        gpus = "-" if point["gpu"] is None else f"{point['world_size']} x {point['gpu']}"
        print(f"| {name} | {gpus} | {reserved} | {' | '.join(cells)} |")
    for kind, values in found.items():
        sizes = [abs(value) for value in values.values()]
        print(f"{TITLES[kind]}: {len(sizes)} runs, median {median(sizes):.2%}, largest {max(sizes):.2%}")
    draw(found)


def draw(found: dict[str, dict[str, float]]) -> None:
    """One row for each figure, one dot for each run."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "zpipe"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4), layout="constrained")
    for row, (name, title) in enumerate(TITLES.items()):
        values = sorted(100 * value for value in found[name].values())
        offsets = [row + 0.25 * (index % 5 - 2) / 2 for index in range(len(values))]
        axes.plot(values, offsets, "o", markersize=4, alpha=0.7, label=f"{title}: {len(values)} runs")
    axes.set_yticks(range(len(TITLES)), list(TITLES.values()))
    axes.axvspan(-5, 5, color="0.92", zorder=0)
    axes.set_xlabel("predicted / measured - 1, in percent; the band of the verdict is gray")
    axes.legend(loc="lower left", fontsize="small")
    figure.savefig(PLOT, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("verb", nargs="?", choices=["add"])
    parser.add_argument("results", nargs="?", type=Path)
    parser.add_argument("gpu", nargs="?", choices=list(CARDS))
    options = parser.parse_args()
    if options.verb == "add":
        add(options.results, options.gpu)
    else:
        show(read_points())


if __name__ == "__main__":
    main()
