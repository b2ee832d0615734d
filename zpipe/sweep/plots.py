"""The pictures of a sweep report. Only this module knows matplotlib, and imports it when it draws."""

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
_DECADE = 8
"""From this ratio of the largest to the smallest value an axis is logarithmic."""


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
    figure = _figure(10.5, 4.6)
    left, right = figure.subplots(1, 2)
    for axes, name in ((left, "speed"), (right, "memory")):
        _lines(axes, survey, key, name)
        _scale(axes, [float(spot.settings[key]) for spot in survey.spots])
        axes.set_xlabel(key)
    left.set(title="Throughput", ylabel="tokens / s")
    right.set(title=f"Peak {survey.memory_of} memory", ylabel="GiB")
    handles, labels = left.get_legend_handles_labels()
    if any(labels):
        figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)))
    return figure


def _lines(axes: "Axes", survey: Survey, key: str, figure: str) -> None:
    names = list(dict.fromkeys(survey.line(spot, key) for spot in survey.spots))
    failed: list[tuple[float, str, Spot]] = []
    for name, (colour, marker) in zip(names, _looks(len(names)), strict=True):
        spots = [spot for spot in survey.spots if survey.line(spot, key) == name]
        failed += [(float(spot.settings[key]), colour, spot) for spot in spots if spot.ending != "finished"]
        drawn = sorted(
            (float(spot.settings[key]), value)
            for spot in spots
            if (value := getattr(spot, figure)) is not None and spot.ending == "finished"
        )
        x, y = [place for place, _ in drawn], [value for _, value in drawn]
        axes.plot(x, y, color=colour, marker=marker, label=name)
    # From zero, so that a small difference looks small.
    top = max((value for spot in survey.spots if (value := getattr(spot, figure)) is not None), default=1.0)
    places = sorted({float(spot.settings[key]) for spot in survey.spots})
    _mark_failed(axes, failed, places[len(places) // 2], 1.12 * top or 1.0)
    axes.yaxis.set_major_formatter("{x:,.0f}" if top >= 100 else "{x:g}")


def _scale(axes: "Axes", places: list[float]) -> None:
    """Ticks where the points are, on a logarithmic axis where they span decades."""
    if min(places) > 0 and max(places) / min(places) >= _DECADE:
        axes.set_xscale("log")
    ticks = sorted(set(places))
    axes.set_xticks(ticks, labels=[_amount(place) for place in ticks])
    axes.minorticks_off()
    axes.margins(x=0.08)


def _mark_failed(axes: "Axes", failed: list[tuple[float, str, Spot]], centre: float, top: float) -> None:
    """A strip below zero with a cross in its line's colour for each point that came to no figure."""
    heights = {place: [each[0] for each in failed].count(place) for place, _, _ in failed}
    row = 0.08 * top
    strip = row * max(heights.values(), default=0)
    axes.set_ylim(-strip, top)
    if not failed:
        return
    axes.axhspan(-strip, 0, color="#FBEDEC", zorder=0)
    axes.set_yticks([tick for tick in axes.get_yticks() if 0 <= tick <= top])
    done: dict[float, int] = {}
    for place, colour, spot in failed:
        done[place] = done.get(place, 0) + 1
        height = -row * (done[place] - 0.5)
        axes.plot(place, height, "X", color=colour, markersize=10, markeredgecolor="white", clip_on=False)
        on_right = place >= centre
        axes.annotate(
            f"{spot.name}: {_worded(spot.ending)}",
            (place, height),
            xytext=(-8 if on_right else 8, 0),
            textcoords="offset points",
            ha="right" if on_right else "left",
            va="center",
            fontsize=8,
            color=_FAILED,
        )


def _trade_off(survey: Survey) -> "Figure":
    """Throughput against memory, with the points that no other beats in both."""
    figure = _figure(8.5, 5.4)
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
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter("{x:,.0f}")
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


def _looks(count: int) -> list[tuple[str, str]]:
    """A colour and a marker for each of so many lines; both begin anew after seven, out of step."""
    return [(_COLOURS[index % 7], _MARKERS[(index + index // 7) % 7]) for index in range(count)]


def _amount(value: float) -> str:
    """5e7 as 50M: what a bucket size is called."""
    for power, letter in ((9, "G"), (6, "M"), (3, "k")):
        if abs(value) >= 10**power:
            return f"{value / 10**power:g}{letter}"
    return f"{value:g}"


def _worded(ending: str) -> str:
    return ending.replace("gpu", "GPU").replace("_", " ")


def _file_name(key: str) -> str:
    return "".join(each if each.isalnum() or each in "._-" else "_" for each in key)


def _figure(width: float, height: float) -> "Figure":
    """An empty figure of so many inches, drawn without a display."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    return Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12))


def _save(figure: "Figure", path: Path) -> Path:
    figure.savefig(path, facecolor="white")
    return path
