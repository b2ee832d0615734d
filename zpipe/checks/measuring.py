"""Measuring before a run: settings that contradict each other, and launchers that start nothing here."""

from collections.abc import Iterator

from zpipe.facts.facts import Facts
from zpipe.launchers import launcher_of
from zpipe.problems import Problem, either
from zpipe.schema.auto import Automatic
from zpipe.schema.experiment import Experiment

_GROUPS = "stage=auto offload=auto batch=auto"


def measuring_problems(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """`auto.measure` and `auto.probes` belong to a choice, and must agree."""
    auto = experiment.auto
    if auto.measure is None and auto.probes is None:
        return
    key, value = ("auto.measure", auto.measure) if auto.measure is not None else ("auto.probes", auto.probes)
    off = f"{key}=null"
    if not _chooses(auto):
        reason = "no group is automatic, so there is nothing to measure"
        yield Problem(key, value, reason, "null without GROUP=auto", either(off, _GROUPS), ignored=True)
        return
    if auto.measure is not None and auto.probes is not None and bool(auto.measure) != bool(auto.probes):
        reason = f"contradicts auto.measure={str(auto.measure).lower()}"
        fix = either("auto.measure=null", "auto.probes=null")
        yield Problem("auto.probes", auto.probes, reason, "one of the two", fix)
    elif auto.measure or auto.probes:
        yield from _elsewhere(experiment, facts, key, value, off)


def _elsewhere(experiment: Experiment, facts: Facts, key: str, value: object, off: str) -> Iterator[Problem]:
    """Short runs are started by this zpipe, as processes of this machine."""
    launcher, allowed = experiment.launcher, "null, or a launcher that starts processes on this machine"
    try:
        kind = launcher_of(launcher.type)
    except LookupError:  # refused by a rule of its own
        return
    if kind.queues or not kind.spawns:
        what = "submits the run to a queue" if kind.queues else "runs the worker in the process of zpipe"
        reason = f"launcher={launcher.type} {what}, and nothing can be measured before"
        yield Problem(key, value, reason, allowed, either(off, "launcher=torchrun"))
    elif facts.nodes > 1 or facts.hosts.hosts:
        reason = "the run has several nodes, and one of them alone measures nothing that holds for them"
        yield Problem(key, value, reason, "null for several nodes", either(off))


def _chooses(auto: Automatic) -> bool:
    return any(value is True for name, value in auto if name not in ("measure", "probes"))


ERRORS = (measuring_problems,)
