"""`zpipe plan -m OVERRIDES`: checks and compiles every point of a sweep, and writes nothing."""

from collections.abc import Mapping, Sequence
from typing import Any

from zpipe.cli.output import Format, is_data, print_data
from zpipe.compose.overrides import rewrite
from zpipe.compose.points import PlannedPoint, plan_sweep
from zpipe.exits import Exit
from zpipe.plans.plan import Plan, without_secrets
from zpipe.problems import Problem
from zpipe.redact import redact_override
from zpipe.terminal.console import print_problems, print_table

_MAX_LISTED = 8
"""Points to list for each problem; further points are only counted."""


def plan_points(overrides: list[str], form: Format) -> int:
    """Prints a line for each point and the reasons of refusals. Raises Refusal for an invalid sweep."""
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
    """Prints each problem once to stderr, with the points that have it."""
    points_of: dict[str, list[int]] = {}
    problems: dict[str, Problem] = {}
    for each in planned:
        for problem in each.problems:
            points_of.setdefault(str(problem), []).append(each.point.number)
            problems[str(problem)] = problem
    if not problems:
        return
    refused = sum(each.plan is None for each in planned)
    listed = (
        problem._replace(reason=f"{problem.reason} ({_listed(points_of[text])})")
        for text, problem in problems.items()
    )
    print_problems(listed, title=f"Refused: {refused} of {len(planned)} points")


def _listed(points: Sequence[int]) -> str:
    first = ", ".join(map(str, points[:_MAX_LISTED]))
    more = len(points) - _MAX_LISTED
    return f"point{'s' if len(points) > 1 else ''} {first}{f' and {more} more' if more > 0 else ''}"


def _settings(planned: PlannedPoint) -> dict[str, str]:
    pairs = (redact_override(text).partition("=") for text in planned.point.command)
    return {key: value for key, _, value in pairs}


def _cells(settings: Mapping[str, str], swept: Sequence[str]) -> list[str]:
    return [settings.get(key, "") for key in swept]


def _verdict(planned: PlannedPoint) -> str:
    if planned.plan is None:
        count = len(planned.problems)
        return f"refused: {count} problem{'' if count == 1 else 's'}"
    return f"{planned.plan.tokens_per_step} tokens per step{_warnings(planned.plan)}"


def _warnings(plan: Plan) -> str:
    keys = [notice.key for notice in plan.notices if notice.level == "warning"]
    return f", warning: {', '.join(keys)}" if keys else ""


def _as_data(planned: PlannedPoint) -> dict[str, Any]:
    return {
        "number": planned.point.number,
        "command": [redact_override(text) for text in planned.point.command],
        "problems": [{**problem._asdict(), "value": str(problem.value)} for problem in planned.problems],
        "plan": None if planned.plan is None else without_secrets(planned.plan).model_dump(mode="json"),
    }
