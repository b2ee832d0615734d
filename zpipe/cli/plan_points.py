"""`zpipe plan -m OVERRIDES`: every point of a sweep checked and compiled, nothing written."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from zpipe.cli.output import Format, is_data, print_data
from zpipe.compose.overrides import rewrite
from zpipe.compose.points import PlannedPoint, plan_sweep
from zpipe.exits import Exit
from zpipe.plan.plan import Plan, without_secrets
from zpipe.problems import Problem
from zpipe.redact import redact_override
from zpipe.terminal.console import print_problems, print_table

_FEW = 8
"""Points that a problem names before it only counts them."""


def plan_points(overrides: list[str], form: Format) -> int:
    """Says which points are refused and why. Raises Refusal if the points cannot be listed."""
    planned = plan_sweep(rewrite(overrides))
    if is_data(form):
        print_data([_as_data(each) for each in planned], form)
    else:
        settings = [_settings(each) for each in planned]
        swept = [key for key in settings[0] if len({each.get(key) for each in settings}) > 1]
        rows = (
            [*_cells(given, swept), _verdict(each)] for given, each in zip(settings, planned, strict=True)
        )
        print_table(("point", *swept, "plan"), ([str(number), *row] for number, row in enumerate(rows)))
    print_refused(planned)
    return Exit.REFUSED if any(each.plan is None for each in planned) else Exit.FINISHED


def print_refused(planned: Sequence[PlannedPoint]) -> None:
    """Each problem once, with the points that have it, on stderr; nothing if no point is refused."""
    points_of: dict[str, list[int]] = {}
    problems: dict[str, Problem] = {}
    for each in planned:
        for problem in each.problems:
            points_of.setdefault(str(problem), []).append(each.point.number)
            problems[str(problem)] = problem
    if problems:
        refused = sum(each.plan is None for each in planned)
        listed = (
            replace(each, reason=f"{each.reason} ({_named(points_of[text])})")
            for text, each in problems.items()
        )
        print_problems(listed, title=f"Refused: {refused} of {len(planned)} points")


def _named(points: Sequence[int]) -> str:
    few = ", ".join(map(str, points[:_FEW]))
    more = len(points) - _FEW
    return f"point{'s' if len(points) > 1 else ''} {few}{f' and {more} more' if more > 0 else ''}"


def _settings(planned: PlannedPoint) -> dict[str, str]:
    pairs = (redact_override(text).partition("=") for text in planned.point.command)
    return {key: value for key, _, value in pairs}


def _cells(settings: Mapping[str, str], swept: Sequence[str]) -> list[str]:
    return [settings.get(key, "") for key in swept]


def _verdict(planned: PlannedPoint) -> str:
    if planned.plan is None:
        count = len(planned.problems)
        return f"refused: {count} problem{'' if count == 1 else 's'}"
    return f"{planned.plan.tokens_per_step} tokens a step{_warnings(planned.plan)}"


def _warnings(plan: Plan) -> str:
    keys = [notice.key for notice in plan.notices if notice.level == "warning"]
    return f", warning: {', '.join(keys)}" if keys else ""


def _as_data(planned: PlannedPoint) -> dict[str, Any]:
    return {
        "number": planned.point.number,
        "command": [redact_override(text) for text in planned.point.command],
        "problems": [{**asdict(problem), "value": str(problem.value)} for problem in planned.problems],
        "plan": None if planned.plan is None else without_secrets(planned.plan).model_dump(mode="json"),
    }
