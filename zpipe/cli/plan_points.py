"""`zpipe plan -m OVERRIDES`: checks and compiles every point of a sweep, and writes nothing."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from zpipe.cli.array_shown import ArrayShown
from zpipe.cli.output import Format, is_data, print_list
from zpipe.compose.overrides import rewrite
from zpipe.compose.points import PlannedPoint, plan_sweep
from zpipe.exits import Exit
from zpipe.machine.hardware import Hardware
from zpipe.plans.plan import Plan, without_secrets
from zpipe.problems import Problem
from zpipe.redact import redact_override
from zpipe.terminal.console import print_problems, print_table

_MAX_LISTED = 8
"""Points to list for each problem; further points are only counted."""


def plan_points(overrides: list[str], form: Format, hardware: Hardware) -> int:
    """Prints a line for each point and the reasons of refusals. Raises Refusal for an invalid sweep."""
    refused, array = RefusedPoints(), ArrayShown()
    planned = array.noted(refused.noted(plan_sweep(rewrite(overrides), hardware)))
    if is_data(form):
        print_list(map(_as_data, planned), form)
    else:
        rows = [(_settings(each), _verdict(each)) for each in planned]
        swept = [key for key in rows[0][0] if len({given.get(key) for given, _ in rows}) > 1]
        cells = ([*_cells(given, swept), verdict] for given, verdict in rows)
        print_table(("point", *swept, "plan"), ([str(number), *row] for number, row in enumerate(cells)))
        array.show()
    refused.show()
    return Exit.REFUSED if refused.count else Exit.FINISHED


class RefusedPoints:
    """The problems of the points of a sweep, each with the points that have it."""

    def __init__(self) -> None:
        self.total = 0
        self.count = 0
        self._points_of: dict[str, list[int]] = {}
        self._problems: dict[str, Problem] = {}

    def noted(self, planned: Iterable[PlannedPoint]) -> Iterator[PlannedPoint]:
        """The same points, whose problems are noted on the way."""
        for each in planned:
            self.total += 1
            self.count += each.plan is None
            for problem in each.problems:
                self._points_of.setdefault(str(problem), []).append(each.point.number)
                self._problems[str(problem)] = problem
            yield each

    def show(self) -> None:
        """Prints each problem once to stderr."""
        if not self._problems:
            return
        listed = (
            problem._replace(reason=f"{problem.reason} ({_listed(self._points_of[text])})")
            for text, problem in self._problems.items()
        )
        print_problems(listed, title=f"Refused: {self.count} of {self.total} points")


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
