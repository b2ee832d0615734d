"""The plan of one point of a sweep, from the configuration that Hydra composed for it."""

import math
from collections.abc import Iterator
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from zpipe.compile.compiler import compile_plan
from zpipe.compose.compose import provenance_under_hydra, to_experiment
from zpipe.compose.overrides import given_overrides
from zpipe.launchers import launcher_of
from zpipe.machine.hardware import Hardware
from zpipe.plans.plan import Plan
from zpipe.plans.provenance import Origin, Provenance
from zpipe.problems import Problem, either, refuse_if_any
from zpipe.running.runner import start_problems
from zpipe.running.start import Start, start_of
from zpipe.running.this_machine import not_this_machine
from zpipe.schema.experiment import Experiment

SWEEP_LABEL = "the sweep, after the values of its keys"
"""The source of a run name that the user did not choose."""


def experiment_of_point(config: DictConfig, label: str) -> tuple[Experiment, Provenance]:
    """Raises Refusal. HydraConfig is that of the point."""
    overrides = [each for part in given_overrides(HydraConfig.get()) for each in part]
    return _named(to_experiment(config), provenance_under_hydra(overrides), label)


def plan_of_point(
    experiment: Experiment, provenance: Provenance, run_dir: Path, command: list[str], hardware: Hardware
) -> tuple[Plan, Start]:
    """Raises Refusal, also for a run that cannot start here."""
    plan = compile_plan(experiment, run_dir, command, hardware, provenance)
    refuse_if_any([*start_problems(plan), *not_this_machine(plan, hardware)])
    return plan, start_of(plan)


def not_on_one_machine(plan: Plan) -> Iterator[Problem]:
    """What keeps a point from running here, as Hydra's launcher starts it."""
    reason = "the points of a sweep run on one machine, or as a Slurm job array"
    if plan.launch.hosts:
        hostfile, fix = plan.experiment.launcher.hostfile, either("launcher.hostfile=null")
        yield Problem("launcher.hostfile", hostfile, reason, "null", fix)
    elif plan.launch.nodes > 1:
        yield Problem("launcher.nodes", plan.launch.nodes, reason, "1", either("launcher=slurm"))
    if launcher_of(plan.launch.launcher).queues:
        yield Problem("launcher.type", plan.launch.launcher, reason, "slurm", either("launcher=slurm"))


def _named(experiment: Experiment, provenance: Provenance, label: str) -> tuple[Experiment, Provenance]:
    """Names the run of a point after the values of its keys, unless the user named it."""
    if experiment.tracking.run_name is not None or not label:
        return experiment, provenance
    key = "tracking.run_name"
    tracking = experiment.tracking.model_copy(update={"run_name": label})
    origins = [*provenance.experiment.get(key, []), Origin(source=SWEEP_LABEL, value=label)]
    sources = {**provenance.experiment, key: origins}
    return (
        experiment.model_copy(update={"tracking": tracking}),
        provenance.model_copy(update={"experiment": sources}),
    )


def worst_objective(sweeper: DictConfig) -> float:
    """The objective of a point without figures: NaN would end an optimization."""
    return -math.inf if "maximize" in str(sweeper.get("direction")).lower() else math.inf
