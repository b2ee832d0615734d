"""Filters the proposed remedies: only those that compile and change the plan are advised."""

import shlex
from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError

from zpipe.compile.compiler import compile_plan
from zpipe.diagnose.remedies import REMEDIES, Situation, Suggestion
from zpipe.machine.hardware import Hardware
from zpipe.machine.probes import lacking
from zpipe.plans.effective import in_effect
from zpipe.plans.given import Given
from zpipe.plans.plan import Plan
from zpipe.problems import Refusal
from zpipe.runfolder.outcome import Ending
from zpipe.schema.changed import changed, completed


def advise(ending: Ending, situation: Situation, hardware: Hardware) -> list[Suggestion]:
    """Overrides to try, best first, each of which compiles on this hardware; empty after a finished run."""
    remedies = REMEDIES.get(ending)
    proposals = remedies(situation) if remedies else ()
    checked = (_checked(proposal, situation.plan, hardware) for proposal in proposals)
    return [suggestion for suggestion in checked if suggestion is not None]


def _checked(proposal: Suggestion, plan: Plan, hardware: Hardware) -> Suggestion | None:
    """The proposal, completed; None if it changes nothing, or if the schema or a rule refuses it."""
    try:
        needed = " ".join(completed(plan.experiment, proposal.overrides))
        overrides = in_effect(needed, Given(plan.provenance)).split()
        suggestion = Suggestion(tuple(overrides), proposal.why)
        experiment = changed(plan.experiment, suggestion.overrides)
        compiled = compile_plan(experiment, Path(plan.run_dir), [], hardware)
    except (Refusal, ValidationError):
        return None
    differs = (
        compiled.ds_config != plan.ds_config
        or compiled.training_arguments != plan.training_arguments
        or experiment.launcher != plan.experiment.launcher
        or experiment.data != plan.experiment.data
        or experiment.model != plan.experiment.model
    )
    # The run itself has started here, so only what it did not need can be missing.
    return suggestion if differs and not lacking(compiled) - lacking(plan) else None


def command_with(plan: Plan, overrides: Iterable[str]) -> list[str]:
    """The overrides of the run for a new folder, with these instead of the ones that they replace."""
    added = list(overrides)
    replaced = {override.partition("=")[0] for override in added} | {"hydra.run.dir", "hydra.sweep.dir"}
    kept = [each for each in plan.command if each.partition("=")[0].lstrip("+~") not in replaced]
    return kept + added


def command_line(plan: Plan, overrides: Iterable[str]) -> str:
    """The same as a shell command."""
    return shlex.join(["zpipe", *command_with(plan, overrides)])
