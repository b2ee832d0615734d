"""Whether two nodes would train the same: their plans and their packages must agree."""

from collections.abc import Iterator, Mapping
from typing import Any

from zpipe.plans.plan import Plan
from zpipe.plans.same_inputs import other_inputs
from zpipe.problems import Problem
from zpipe.trees import leaves

OWN = ("launcher.node_rank", "launcher.env", "memory.", "tracking.")
"""Settings in which nodes may differ."""
PACKAGES = ("zpipe", "torch", "transformers", "accelerate", "deepspeed")
"""Packages whose versions must agree."""


def disagreements(first: Plan, here: Plan, whose: str = "node 0 has") -> Iterator[Problem]:
    """Every setting and version in which this node differs from the plan of the first."""
    ours, theirs = _settings(here), _settings(first)
    for key in sorted({*ours, *theirs}):
        if ours.get(key) != theirs.get(key) and not key.startswith(OWN):
            yield _different(whose, key, ours.get(key), theirs.get(key), f"{key}={theirs.get(key)}")
    yield from other_inputs(first, here)
    for name in PACKAGES:
        our_version, their_version = here.versions.get(name), first.versions.get(name)
        if our_version != their_version:
            yield _different(whose, name, our_version, their_version, f"pip install {name}=={their_version}")
    for name in ("nproc_per_node", "device"):
        ours_here, wanted = getattr(here.launch, name), getattr(first.launch, name)
        if ours_here != wanted:
            yield _different(whose, f"launcher.{name}", ours_here, wanted, f"launcher.{name}={wanted}")


def _settings(plan: Plan) -> Mapping[str, Any]:
    return dict(leaves(plan.experiment.model_dump(mode="json")))


def _different(whose: str, key: str, ours: object, theirs: object, fix: str) -> Problem:
    return Problem(key, "null" if ours is None else ours, f"{whose} another value", str(theirs), fix)
