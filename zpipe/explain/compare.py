"""Differences between two plans, with the source of each value: `zpipe diff RUN_A RUN_B`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from zpipe.explain.explain import source_in
from zpipe.plans.plan import Plan
from zpipe.trees import leaves

ABSENT = "absent"


@dataclass(frozen=True)
class Side:
    """A value in one of the plans."""

    value: Any
    source: str = ""
    """What set the value; empty if the plan does not record it."""


@dataclass(frozen=True)
class Difference:
    """One value that differs."""

    section: str
    """experiment, ds_config, launch, environment or versions."""
    key: str
    a: Side
    b: Side


def differences(a: Plan, b: Plan) -> list[Difference]:
    """All differences, section by section. Paths inside the two run folders count as equal."""
    sides = _sections(a), _sections(b)
    return [
        difference for name in sides[0] for difference in _section(name, a, b, sides[0][name], sides[1][name])
    ]


def _section(
    name: str, a: Plan, b: Plan, of_a: Mapping[str, Any], of_b: Mapping[str, Any]
) -> Iterator[Difference]:
    for key in dict.fromkeys([*of_a, *of_b]):
        if of_a.get(key, ABSENT) != of_b.get(key, ABSENT):
            yield Difference(name, key, _side(name, key, a, of_a), _side(name, key, b, of_b))


def _side(section: str, key: str, plan: Plan, values: Mapping[str, Any]) -> Side:
    if key not in values:
        return Side(ABSENT)
    has_source = section in ("experiment", "ds_config")
    return Side(values[key], source_in(plan, key) if has_source else "")


def _sections(plan: Plan) -> dict[str, dict[str, Any]]:
    launch = plan.launch.model_dump(exclude={"env", "argv", "files"})
    sections = {
        "experiment": dict(leaves(plan.experiment.model_dump())),
        "ds_config": dict(leaves(plan.ds_config)),
        "launch": {**launch, "argv": " ".join(plan.launch.argv)},
        "environment": plan.launch.env,
        "versions": plan.versions,
    }
    return {
        name: {key: _without_run_folder(value, plan) for key, value in values.items()}
        for name, values in sections.items()
    }


def _without_run_folder(value: Any, plan: Plan) -> Any:
    """The value with placeholders for the run folder and the swap folder."""
    if not isinstance(value, str):
        return value
    if plan.swap_dir is not None:
        value = value.replace(plan.swap_dir, "SWAP_FOLDER")
    return value.replace(plan.run_dir, "RUN_FOLDER")
