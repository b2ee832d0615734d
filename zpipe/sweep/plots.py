"""The plots of a sweep report. Only this module uses matplotlib, and imports it when it draws."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from zpipe.sweep.results import PointResult, SweepResults, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F")
"""The palette by Okabe and Ito, which is safe for color-blind readers."""
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
_MAX_LABELS = 16
"""With more points than this, only those on the Pareto front are labeled."""
_LOG_SCALE_RATIO = 8
"""An axis is logarithmic if its largest value is at least this many times its smallest."""

Quantity = Literal["speed", "memory"]


def draw(results: SweepResults, folder: Path) -> list[Path]:
    """Writes the plots that the sweep has points for; returns their paths."""
    import matplotlib as mpl

    files = []
    with mpl.rc_context(_STYLE):
        for key in results.numeric:
            files.append(_save(_over(results, key), folder / f"sweep_{_file_name(key)}.png"))
        if results.measured():
            files.append(_save(_trade_off(results), folder / "sweep_pareto.png"))
    return files


def _over(results: SweepResults, key: str) -> "Figure":
    """Throughput and memory over one numeric key, with one line for each setting of the other keys."""
    figure = _figure(10.5, 4.6)
    left, right = figure.subplots(1, 2)
    _draw_lines(left, results, key, "speed")
    _draw_lines(right, results, key, "memory")
    for axes in (left, right):
        _scale(axes, [float(point.settings[key]) for point in results.points])
        axes.set_xlabel(key)
    left.set(title="Throughput", ylabel="tokens / s")
    right.set(title=f"Peak {results.memory_of} memory", ylabel="GiB")
    handles, labels = left.get_legend_handles_labels()
    if any(labels):
        figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)))
    return figure


def _draw_lines(axes: "Axes", results: SweepResults, key: str, quantity: Quantity) -> None:
    labels = list(dict.fromkeys(results.label(point, key) for point in results.points))
    failed: list[tuple[float, str, PointResult]] = []
    for label, (color, marker) in zip(labels, _line_styles(len(labels)), strict=True):
        points = [point for point in results.points if results.label(point, key) == label]
        failed += [(float(point.settings[key]), color, point) for point in points if not point.is_finished]
        drawn = sorted(
            (float(point.settings[key]), value)
            for point in points
            if (value := getattr(point, quantity)) is not None and point.is_finished
        )
        axes.plot([x for x, _ in drawn], [y for _, y in drawn], color=color, marker=marker, label=label)
    # The axis starts at zero, so that a small difference looks small.
    values = [value for point in results.points if (value := getattr(point, quantity)) is not None]
    top = max(values, default=1.0)
    positions = sorted({float(point.settings[key]) for point in results.points})
    _mark_failed(axes, failed, positions[len(positions) // 2], 1.12 * top or 1.0)
    axes.yaxis.set_major_formatter("{x:,.0f}" if top >= 100 else "{x:g}")


def _scale(axes: "Axes", positions: list[float]) -> None:
    """Puts ticks at the points; the axis is logarithmic if the points span a wide range."""
    if min(positions) > 0 and max(positions) / min(positions) >= _LOG_SCALE_RATIO:
        axes.set_xscale("log")
    ticks = sorted(set(positions))
    axes.set_xticks(ticks, labels=[_amount(position) for position in ticks])
    axes.minorticks_off()
    axes.margins(x=0.08)


def _mark_failed(
    axes: "Axes", failed: list[tuple[float, str, PointResult]], center: float, top: float
) -> None:
    """Draws a strip below zero with a cross in its line's color for each point that did not finish."""
    positions = [position for position, _, _ in failed]
    row = 0.08 * top
    strip = row * max(map(positions.count, positions), default=0)
    axes.set_ylim(-strip, top)
    if not failed:
        return
    axes.axhspan(-strip, 0, color="#FBEDEC", zorder=0)
    axes.set_yticks([tick for tick in axes.get_yticks() if 0 <= tick <= top])
    for index, (x, color, point) in enumerate(failed):
        y = -row * (positions[:index].count(x) + 0.5)
        axes.plot(x, y, "X", color=color, markersize=10, markeredgecolor="white", clip_on=False)
        on_right = x >= center
        axes.annotate(
            f"{point.name}: {point.shown_ending}",
            (x, y),
            xytext=(-8 if on_right else 8, 0),
            textcoords="offset points",
            ha="right" if on_right else "left",
            va="center",
            fontsize=8,
            color=_FAILED,
        )


def _trade_off(results: SweepResults) -> "Figure":
    """Throughput against memory, with the Pareto front."""
    figure = _figure(8.5, 5.4)
    axes = figure.subplots()
    names = list(dict.fromkeys(_color_name(results, point) for point in results.points))
    for name, (color, marker) in zip(names, _line_styles(len(names)), strict=True):
        points = [point for point in results.measured() if _color_name(results, point) == name]
        x, y = _coordinates(points)
        axes.plot(x, y, color=color, marker=marker, markersize=8, linestyle="", label=name or "points")
    _draw_front(axes, results)
    axes.margins(0.12)
    # Both axes start at zero, so that a small difference looks small.
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set(
        title="Throughput against memory (numbers are points)",
        xlabel=f"peak {results.memory_of} memory, GiB",
        ylabel="tokens / s",
    )
    missing = [point for point in results.points if not point.is_finished and point.memory is None]
    if missing:
        text = "not measured: " + ", ".join(f"{point.name} ({point.shown_ending})" for point in missing)
        figure.supxlabel(text, color=_FAILED, fontsize=9, x=0.02, ha="left")
    axes.legend(loc="best")
    return figure


def _draw_front(axes: "Axes", results: SweepResults) -> None:
    """Draws the Pareto front as a dashed line, and the names of the points."""
    front = results.pareto_front()
    x, y = _coordinates(front)
    label = "no point is better in both"
    axes.step(x, y, where="post", color="#444444", linestyle="--", linewidth=1.2, zorder=1, label=label)
    labeled = results.measured() if len(results.points) <= _MAX_LABELS else front
    for point in labeled:
        axes.annotate(
            point.name,
            (point.memory or 0, point.speed or 0),
            xytext=(6, 5),
            textcoords="offset points",
            fontsize=8,
            color="#444444",
        )


def _coordinates(points: list[PointResult]) -> tuple[list[float], list[float]]:
    """Memory and throughput of these points."""
    return [point.memory or 0 for point in points], [point.speed or 0 for point in points]


def _color_name(results: SweepResults, point: PointResult) -> str:
    keys = results.categorical or results.numeric[:1]
    return ", ".join(f"{short(key)} {point.settings[key]}" for key in keys)


def _line_styles(count: int) -> list[tuple[str, str]]:
    """A distinct pair of color and marker for each of `count` lines, up to 49."""
    return [(_COLORS[index % 7], _MARKERS[(index + index // 7) % 7]) for index in range(count)]


def _amount(value: float) -> str:
    """A number with a metric suffix: 50M for 5e7."""
    for power, letter in ((9, "G"), (6, "M"), (3, "k")):
        if abs(value) >= 10**power:
            return f"{value / 10**power:g}{letter}"
    return f"{value:g}"


def _file_name(key: str) -> str:
    return "".join(each if each.isalnum() or each in "._-" else "_" for each in key)


def _figure(width: float, height: float) -> "Figure":
    """An empty figure of this size in inches, drawn without a display."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    return Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12))


def _save(figure: "Figure", path: Path) -> Path:
    figure.savefig(path, facecolor="white")
    return path
