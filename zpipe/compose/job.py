"""Runs as Hydra jobs: a single run that zpipe composed, and the points of a sweep, composed by Hydra."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from hydra import version
from hydra._internal.callbacks import Callbacks
from hydra._internal.utils import _run_hydra, get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import run_job
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, read_write

from zpipe.compile.compiler import compile_plan
from zpipe.compose.array_launcher import register_array_launcher
from zpipe.compose.compose import ComposedRun, meeting_problems
from zpipe.compose.overrides import as_typed, given_overrides
from zpipe.compose.point_plan import (
    experiment_of_point,
    not_on_one_machine,
    plan_of_point,
    worst_objective,
)
from zpipe.compose.queued import repeated_command, settled
from zpipe.compose.redact_hydra import hide_secrets_in_hydra, printed_without_secrets
from zpipe.compose.sources import exported_recipe_folder, register
from zpipe.launchers import launcher_of
from zpipe.machine.hardware import detect
from zpipe.plans.plan import Plan
from zpipe.probes.measuring import with_measuring
from zpipe.problems import Refusal, refuse_if_any
from zpipe.resources import CONF
from zpipe.runfolder.outcome import Outcome
from zpipe.running.conclusion import refuse
from zpipe.running.finished import finished_before
from zpipe.running.member import take_part, tell_refusal
from zpipe.running.requeue import requeue_if_preempted
from zpipe.running.restarts import with_restarts
from zpipe.running.runner import run_plan, start_problems
from zpipe.running.start import start_of
from zpipe.running.submit import submit
from zpipe.running.this_machine import not_this_machine
from zpipe.running.trainjob import submit_trainjob
from zpipe.sweep.definition import Definition
from zpipe.sweep.point import run_point

hide_secrets_in_hydra()

PARENT_RUN = "ZPIPE_PARENT_RUN"
"""Set by the script of a job array: the MLflow run of the sweep (zpipe/launchers/array.sh.j2)."""


def run_composed(composed: ComposedRun, typed: list[str] | None = None) -> Outcome:
    """The plan that is checked is the plan that runs. Raises Refusal, which leaves nothing behind.

    `typed` is the whole command line, which the job of a queue repeats.
    """
    hardware = detect()
    command = [as_typed(text) for text in given_overrides(composed.config.hydra)[1]]
    if typed is not None:
        command = repeated_command(composed, typed, command)
    is_member = composed.experiment.launcher.node_rank > 0
    try:
        plan = compile_plan(
            composed.experiment, composed.run_dir, command, hardware, composed.provenance, settled(composed)
        )
        refuse_if_any([*not_this_machine(plan, hardware), *meeting_problems(composed)])
    except Refusal as refusal:
        if is_member:
            tell_refusal(composed.experiment, composed.run_dir, refusal)
        raise
    if is_member:
        return with_restarts(plan, take_part)
    refuse_if_any(start_problems(plan))
    start = start_of(plan)
    if start.finished is not None:
        return finished_before(plan, start.finished)
    if launcher_of(plan.launch.launcher).queues:
        return submit_trainjob(plan, start) if plan.launch.launcher == "kubeflow" else submit(plan, start)

    def run(again: Plan) -> Outcome:
        return run_plan(again, hardware, os.environ.get(PARENT_RUN))

    def restarting(chosen: Plan) -> Outcome:
        return with_restarts(chosen, run)

    def measured() -> Outcome:
        return with_measuring(plan, composed.experiment, composed.provenance, hardware, restarting)

    outcome = run_as_job(composed, measured)
    requeue_if_preempted(plan, outcome)
    return outcome


def run_as_job(composed: ComposedRun, run: Callable[[], Outcome]) -> Outcome:
    """Calls `run` once, as Hydra calls a job.

    Hydra makes the run folder with its record of the composition, sets up logging and the environment of the
    job, and calls its callbacks (hydra/_internal/hydra.py, Hydra.run).
    """
    config = composed.config
    with read_write(config.hydra):
        config.hydra.mode = RunMode.RUN
        config.hydra.run.dir = str(composed.run_dir)

    def task(_: DictConfig) -> Outcome:
        return run()

    callbacks = Callbacks(config)
    callbacks.on_run_start(config=config, config_name="config")
    job = run_job(
        task_function=task,
        config=config,
        job_dir_key="hydra.run.dir",
        job_subdir_key=None,
        hydra_context=HydraContext(config_loader=composed.loader, callbacks=callbacks),
    )
    callbacks.on_run_end(config=config, config_name="config", job_return=job)
    outcome: Outcome = job.return_value
    return outcome


def hand_over(arguments: argparse.Namespace) -> None:
    """Lets Hydra do what its flags ask for: print something, or call `_point` for each point of a sweep."""
    register()
    register_array_launcher()
    version.setbase("1.3")
    with exported_recipe_folder():
        _run_hydra(arguments, get_args_parser(), _point, str(CONF), "config")


def print_for(arguments: argparse.Namespace) -> None:
    """What Hydra prints for flags such as --cfg, without secrets."""
    with printed_without_secrets():
        hand_over(arguments)


def _point(config: DictConfig) -> float:
    """One point of a sweep; returns the value that a sweeper optimizes. A failed run raises nothing."""
    hydra = HydraConfig.get()
    run_dir = Path(hydra.runtime.output_dir)
    command = [as_typed(text) for text in given_overrides(hydra)[1]]
    sweep_dir = Path(hydra.sweep.dir).absolute()

    def run(folder: Path, definition: Definition) -> Outcome:
        return _run(config, folder, command, definition)

    return run_point(sweep_dir, run_dir, command, worst_objective(hydra.sweeper), run)


def _run(config: DictConfig, run_dir: Path, command: list[str], definition: Definition) -> Outcome:
    hardware = detect()
    try:
        experiment, provenance = experiment_of_point(config, definition.label(command))
        plan, _ = plan_of_point(experiment, provenance, run_dir, command, hardware)
        refuse_if_any(not_on_one_machine(plan))
    except Refusal as refusal:
        return refuse(run_dir, refusal.problems)

    def restarting(chosen: Plan) -> Outcome:
        return with_restarts(chosen, lambda again: run_plan(again, hardware, definition.mlflow_run_id))

    return with_measuring(plan, experiment, provenance, hardware, restarting)
