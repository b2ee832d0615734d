"""The pictures of a sweep report. Only this module knows matplotlib, and imports it when it draws."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zpipe.sweep.figures import Spot, Survey, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F")
"""Okabe and Ito's, which colour-blind people tell apart."""
_MARKERS = "osD^vP*"
_FAILED = "#B00020"
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E3E3E3",
    "legend.frameon": False,
    "savefig.dpi": 150,
}
_MOST_LABELS = 16


def draw(survey: Survey, folder: Path) -> list[Path]:
    """Writes the pictures that the sweep has points for, and returns their paths."""
    import matplotlib as mpl

    files = []
    with mpl.rc_context(_STYLE):
        for key in survey.numeric:
            files.append(_save(_over(survey, key), folder / f"sweep_{_file_name(key)}.png"))
        if survey.measured():
            files.append(_save(_trade_off(survey), folder / "sweep_pareto.png"))
    return files


def _over(survey: Survey, key: str) -> "Figure":
    """Throughput and memory over one numeric key, a line for each setting of the others."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.5, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    _lines(left, survey, key, "speed")
    _lines(right, survey, key, "memory")
    left.set(title="Throughput", ylabel="tokens / s", xlabel=key)
    right.set(title=f"Peak {survey.memory_of} memory", ylabel="GiB", xlabel=key)
    handles, labels = left.get_legend_handles_labels()
    if labels:
        figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)))
    return figure


def _lines(axes: "Axes", survey: Survey, key: str, figure: str) -> None:
    places = [float(spot.settings[key]) for spot in survey.spots]
    if _spans_decades(places):
        axes.set_xscale("log")
    else:
        axes.ticklabel_format(axis="x", style="plain", useOffset=False)
    names = list(dict.fromkeys(survey.line(spot, key) for spot in survey.spots))
    for name, (colour, marker) in zip(names, _looks(len(names)), strict=True):
        spots = [spot for spot in survey.spots if survey.line(spot, key) == name]
        drawn = sorted(
            (float(spot.settings[key]), value)
            for spot in spots
            if (value := getattr(spot, figure)) is not None and spot.ending == "finished"
        )
        label = name or "all points"
        axes.plot(*zip(*drawn, strict=True) if drawn else ((), ()), color=colour, marker=marker, label=label)
    _from_zero(axes, [getattr(spot, figure) for spot in survey.spots])
    _mark_failed(axes, [(float(spot.settings[key]), spot) for spot in survey.failed()])
    axes.set_xticks(sorted(set(places)), minor=False, labels=[_amount(x) for x in sorted(set(places))])
    axes.minorticks_off()


def _trade_off(survey: Survey) -> "Figure":
    """Throughput against memory, with the points that no other beats in both."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.5, 5.4), layout="constrained")
    axes = figure.subplots()
    names = list(dict.fromkeys(_colour_name(survey, spot) for spot in survey.spots))
    for name, (colour, marker) in zip(names, _looks(len(names)), strict=True):
        spots = [spot for spot in survey.measured() if _colour_name(survey, spot) == name]
        x, y = [spot.memory or 0 for spot in spots], [spot.speed or 0 for spot in spots]
        axes.plot(x, y, color=colour, marker=marker, markersize=8, linestyle="", label=name or "points")
    front = survey.front()
    axes.step(
        [spot.memory or 0 for spot in front],
        [spot.speed or 0 for spot in front],
        where="post",
        color="#444444",
        linestyle="--",
        linewidth=1.2,
        zorder=1,
        label="no point beats these in both",
    )
    labelled = survey.measured() if len(survey.spots) <= _MOST_LABELS else front
    for spot in labelled:
        axes.annotate(
            spot.name,
            (spot.memory or 0, spot.speed or 0),
            xytext=(6, 5),
            textcoords="offset points",
            fontsize=8,
            color="#444444",
        )
    axes.margins(0.12)
    axes.set(
        title="Throughput against memory (numbers are points)",
        xlabel=f"peak {survey.memory_of} memory, GiB",
        ylabel="tokens / s",
    )
    missing = [spot for spot in survey.failed() if spot.memory is None]
    if missing:
        text = "without figures: " + ", ".join(f"{spot.name} ({_worded(spot.ending)})" for spot in missing)
        figure.supxlabel(text, color=_FAILED, fontsize=9, x=0.02, ha="left")
    axes.legend(loc="best")
    return figure


def _colour_name(survey: Survey, spot: Spot) -> str:
    keys = survey.categorical or survey.numeric[:1]
    return ", ".join(f"{short(key)} {spot.settings[key]}" for key in keys)


def _mark_failed(axes: "Axes", failed: "Iterable[tuple[float, Spot]]") -> None:
    """A cross at the foot of the picture for each point that came to no figure, once for each ending."""
    stacked: dict[float, int] = {}
    for place, spot in failed:
        height = 0.03 + 0.07 * stacked.get(place, 0)
        stacked[place] = stacked.get(place, 0) + 1
        where = axes.get_xaxis_transform()
        axes.plot(place, height, "x", color=_FAILED, transform=where, markersize=8, markeredgewidth=2)
        axes.annotate(
            f"{spot.name}: {_worded(spot.ending)}",
            (place, height),
            xycoords=where,
            xytext=(7, -3),
            textcoords="offset points",
            fontsize=8,
            color=_FAILED,
        )


def _from_zero(axes: "Axes", values: "Iterable[float | None]") -> None:
    """A scale that starts at zero, so that a small difference looks small."""
    largest = max((value for value in values if value is not None), default=1.0)
    axes.set_ylim(0, 1.12 * largest or 1.0)


def _looks(count: int) -> list[tuple[str, str]]:
    """A colour and a marker for each of so many lines; both begin anew after seven, out of step."""
    return [(_COLOURS[index % 7], _MARKERS[(index + index // 7) % 7]) for index in range(count)]


def _spans_decades(values: list[float]) -> bool:
    return min(values) > 0 and max(values) / min(values) >= 8


def _amount(value: float) -> str:
    """5e7 as 50M: what a bucket size is called."""
    for power, letter in ((9, "G"), (6, "M"), (3, "k")):
        if abs(value) >= 10**power:
            return f"{value / 10**power:g}{letter}"
    return f"{value:g}"


def _worded(ending: str) -> str:
    return ending.replace("_", " ")


def _file_name(key: str) -> str:
    return "".join(each if each.isalnum() or each in "._-" else "_" for each in key)


def _save(figure: "Figure", path: Path) -> Path:
    figure.savefig(path, facecolor="white")
    return path
