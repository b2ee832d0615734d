"""zpipe from Python, as in a notebook: `zpipe.plan(...)` and `zpipe.run(...)`."""

from typing import Any

from zpipe.compile.compiler import compile_plan
from zpipe.compose.compose import ComposedRun, compose_once
from zpipe.compose.option_folders import use_config_dir
from zpipe.compose.overrides import rewrite
from zpipe.compose.settings import overrides_from
from zpipe.machine.hardware import detect
from zpipe.plans.plan import Plan
from zpipe.problems import Problem, Refusal, refuse_if_any
from zpipe.record.store import tracking_problems
from zpipe.runfolder.outcome import Outcome


def plan(*overrides: str, **settings: Any) -> Plan:
    """The checked plan of a run. Nothing is written, and torch is not imported.

    Overrides are those of the command line, as texts (`"stage=3"`), as keywords (`stage=3`) or nested
    (`train={"max_steps": 10}`). Raises Refusal with every problem.
    """
    composed, typed = _composed(overrides, settings)
    compiled = compile_plan(composed.experiment, composed.run_dir, typed, detect(), composed.provenance)
    refuse_if_any(tracking_problems(compiled.experiment.tracking))
    return compiled


def run(*overrides: str, **settings: Any) -> Outcome:
    """Trains to the end and returns how the run ended; the arguments are those of `plan`.

    A run that fails raises nothing: see `Outcome.ending`, `reason` and `exit_code`. Raises Refusal with every
    problem of the input.
    """
    from zpipe.compose.job import run_composed

    return run_composed(*_composed(overrides, settings))


def _composed(overrides: tuple[str, ...], settings: dict[str, Any]) -> tuple[ComposedRun, list[str]]:
    typed = [*overrides, *overrides_from(settings)]
    use_config_dir(None)
    composed = compose_once(rewrite(typed))
    if composed.is_multirun:
        reason = "a sweep runs from the command line"
        raise Refusal([Problem("hydra.mode", "MULTIRUN", reason, "RUN", "python -m zpipe -m …")])
    return composed, typed
