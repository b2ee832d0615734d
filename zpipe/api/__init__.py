"""zpipe from Python, as in a notebook: `zpipe.plan(...)` and `zpipe.run(...)`."""

from typing import Any

from zpipe.api.errors import Interrupted, RefusedInput, refusals_shown
from zpipe.api.shown import ShownOutcome, ShownPlan
from zpipe.api.unchanged import logging_unchanged
from zpipe.compile.compiler import compile_plan
from zpipe.compose.compose import ComposedRun, compose_once
from zpipe.compose.option_folders import use_config_dir
from zpipe.compose.overrides import rewrite
from zpipe.compose.queued import repeated_command, settled
from zpipe.compose.repeat import continued
from zpipe.compose.settings import overrides_from
from zpipe.machine.hardware import detect
from zpipe.plans.plan import Plan
from zpipe.problems import Problem, Refusal, refuse_if_any
from zpipe.record.store import tracking_problems
from zpipe.redact import remember_overrides
from zpipe.running.choose import named_problems
from zpipe.running.start import start_of


def plan(*overrides: str, **settings: Any) -> ShownPlan:
    """The checked plan of a run. Nothing is written, and torch is not imported.

    Overrides are those of the command line, as texts (`"stage=3"`), as keywords (`stage=3`) or nested
    (`train={"max_steps": 10}`). The values of keywords are Python's, and text among them is taken as it is.
    Raises Refusal with every problem.
    """
    with refusals_shown():
        composed, typed = _composed(overrides, settings)
        command = repeated_command(composed, typed, typed)
        compiled = compile_plan(
            composed.experiment, composed.run_dir, command, detect(), composed.provenance, settled(composed)
        )
        refuse_if_any(tracking_problems(compiled.experiment.tracking))
        _refuse_what_a_run_would(compiled)
        return ShownPlan.of(compiled)


def _refuse_what_a_run_would(plan: Plan) -> None:
    """Changes with which the run of the folder would not go on; a checkpoint that cannot be used."""
    refuse_if_any(named_problems(plan))
    start_of(plan)


def run(*overrides: str, **settings: Any) -> ShownOutcome:
    """Trains to the end and returns how the run ended; the arguments are those of `plan`.

    A run that fails raises nothing: see `ending`, `reason` and `exit_code` of the result. Raises Refusal with
    every problem of the input, and KeyboardInterrupt when an interrupted run has ended.
    """
    with refusals_shown(), logging_unchanged():
        from zpipe.compose.job import run_composed

        outcome = ShownOutcome.of(run_composed(*_composed(overrides, settings)))
    if outcome.ending == "refused":
        raise RefusedInput(outcome.problems)
    if outcome.ending == "interrupted":
        raise Interrupted(outcome)
    return outcome


def _composed(overrides: tuple[str, ...], settings: dict[str, Any]) -> tuple[ComposedRun, list[str]]:
    refuse_if_any(
        Problem(
            "overrides", each, "is not a string", "strings: 'stage=3'", "stage=3, or **settings for a mapping"
        )
        for each in overrides
        if not isinstance(each, str)
    )
    given = [*overrides, *overrides_from(settings)]
    remember_overrides(given)
    use_config_dir(None)
    typed = continued(given)
    composed = compose_once(rewrite(typed))
    if composed.is_multirun:
        reason = "a sweep runs from the command line"
        raise Refusal([Problem("hydra.mode", "MULTIRUN", reason, "RUN", "python -m zpipe -m …")])
    return composed, typed
