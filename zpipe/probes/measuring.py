"""Measures, before a run, the combinations that `auto.measure` asks for, and compiles the plan from them."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from zpipe.compile.compiler import compile_plan
from zpipe.facts.facts import gather
from zpipe.machine.hardware import Hardware
from zpipe.plans.plan import Plan
from zpipe.plans.provenance import Provenance
from zpipe.probes.short_run import SPEED, measure, shortened, stopped
from zpipe.probes.store import remember
from zpipe.problems import Refusal
from zpipe.runfolder.outcome import STOPPED, Outcome
from zpipe.running.conclusion import reasons, refuse
from zpipe.schema.experiment import Experiment
from zpipe.search.candidates import Trial
from zpipe.search.choose import choose
from zpipe.search.measured import Measurement, merged
from zpipe.supervise.stops import Caught, signals_noted
from zpipe.terminal.choice_text import choice_lines
from zpipe.terminal.console import say

FOLDER_NAME = "probes"
"""In the run folder; each short run has a numbered folder in it."""
_OUT_OF_MEMORY = ("gpu_out_of_memory", "host_out_of_memory")


class _StoppedBySignal(Exception):
    """A signal came while something was measured."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome


def with_measuring(
    plan: Plan, experiment: Experiment, provenance: Provenance, here: Hardware, run: Callable[[Plan], Outcome]
) -> Outcome:
    """Runs the plan, or the one that follows from measurements. `experiment` is as it was composed."""
    if plan.choice is None or not plan.choice.to_measure:
        _say_that_it_is_known(plan, experiment)
        return run(plan)
    with signals_noted() as caught:
        try:
            chosen = _measured(plan, experiment, provenance, here, caught)
        except Refusal as refusal:
            return refuse(Path(plan.run_dir), refusal.problems)
        except _StoppedBySignal as stop:
            say(f"{stop.outcome.ending}: {stop.outcome.reason}, while combinations were measured")
            return stop.outcome.model_copy(update={"run_dir": plan.run_dir})
    return run(chosen)


def _say_that_it_is_known(plan: Plan, experiment: Experiment) -> None:
    auto, choice = experiment.auto, plan.choice
    best = choice.chosen if choice is not None else None
    if (auto.measure or auto.probes) and choice and best and best.measured_tokens_per_second:
        say(f"{choice.why}; auto.measure=again measures anew")


def _measured(
    plan: Plan, experiment: Experiment, provenance: Provenance, here: Hardware, caught: Caught
) -> Plan:
    """The plan that is compiled from the measurements. Raises Refusal, and _StoppedBySignal."""
    run_dir = Path(plan.run_dir)
    chosen = choose(experiment, gather(experiment, here, run_dir), provenance)
    found: list[Measurement] = []
    for number, trial in enumerate(chosen.trials, start=1):
        title = f"probe {number} of {len(chosen.trials)}"
        say(f"{title}: {trial.title}, {trial.predicted:,.0f} tokens/s predicted")
        outcome = _outcome(plan, trial, provenance, here, caught)
        if outcome.ending in STOPPED:
            raise _StoppedBySignal(outcome)
        found.append(_measurement(trial, outcome))
        say(f"{title}: {_told(found[-1])}")
        remember([each for each in found[-1:] if each.tokens_per_second or each.ran_out])
    measured = tuple(merged(chosen.known, found))
    again = compile_plan(experiment, run_dir, plan.command, here, provenance, measured=measured)
    for line in () if again.choice is None else choice_lines(again.choice):
        say(f"auto: {line}")
    if caught.number is not None:
        raise _StoppedBySignal(stopped(caught, plan.run_dir))
    return again


def _outcome(plan: Plan, trial: Trial, provenance: Provenance, here: Hardware, caught: Caught) -> Outcome:
    """How the short run of one combination ended. What is refused, or cannot be written, has failed too."""
    run_dir = Path(plan.run_dir)
    try:
        run_dir = _new_folder(run_dir)
        short = compile_plan(shortened(trial.experiment), run_dir, plan.command, here, provenance)
        return measure(short, caught)
    except Refusal as refusal:
        return Outcome(ending="refused", reason=reasons(refusal.problems), run_dir=str(run_dir))
    except OSError as error:
        return Outcome(ending="disk_full", reason=str(error.strerror), run_dir=str(run_dir))


def _new_folder(run_dir: Path) -> Path:
    """A run that was stopped while it measured has left some."""
    parent, number = run_dir / FOLDER_NAME, 1
    parent.mkdir(parents=True, exist_ok=True)
    while True:
        try:
            (parent / str(number)).mkdir()
        except FileExistsError:
            number += 1
            continue
        return parent / str(number)


def _measurement(trial: Trial, outcome: Outcome) -> Measurement:
    speed = outcome.summary.get(SPEED, 0.0) if outcome.ending == "finished" else 0.0
    is_measured = 0 < speed < float("inf")
    return Measurement(
        workload=trial.workload,
        settings=trial.settings,
        micro_batch=trial.micro_batch,
        accumulation=trial.accumulation,
        tokens_per_second=speed if is_measured else None,
        failed="" if is_measured else outcome.reason or outcome.ending,
        ran_out=outcome.ending in _OUT_OF_MEMORY,
        day=datetime.now().astimezone().date().isoformat(),
        about=trial.about,
    )


def _told(measurement: Measurement) -> str:
    speed = measurement.tokens_per_second
    return f"{speed:,.0f} tokens/s" if speed is not None else f"failed: {measurement.failed}"
