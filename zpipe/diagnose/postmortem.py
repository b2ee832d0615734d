"""Writes `postmortem.md` of an attempt: what happened, the evidence, and what to try."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from zpipe.diagnose.advice import advise, command_line
from zpipe.diagnose.curve import draw
from zpipe.diagnose.descriptions import MEANING
from zpipe.diagnose.deviation import deviation
from zpipe.diagnose.evidence import SHOWN_LINES, Evidence
from zpipe.diagnose.predictions import compare
from zpipe.diagnose.remedies import Situation, Suggestion
from zpipe.diagnose.resource_rules import memory_use
from zpipe.diagnose.root_cause import root_error, root_exit
from zpipe.machine.hardware import Hardware
from zpipe.plans.plan import Plan
from zpipe.problems import Problem
from zpipe.redact import redact
from zpipe.runfolder.atomic import write_text
from zpipe.runfolder.events import NonFiniteLoss, Overflow
from zpipe.runfolder.outcome import STOPPED, Outcome
from zpipe.runfolder.plan_file import folder_of
from zpipe.terminal.units import number

TRACEBACK_LINES = 30
EXPLAINED = STOPPED | {"nonfinite_loss", "loss_scale_stuck", "nothing_learned"}
"""Endings that zpipe or a signal to it brought about: the logs of the processes do not explain them."""


@dataclass(frozen=True)
class PostMortem:
    """The post-mortem of one run; `path` is None if the file could not be written."""

    text: str
    suggestions: tuple[Suggestion, ...]
    path: Path | None = None


def write_postmortem(
    plan: Plan, outcome: Outcome, evidence: Evidence, hardware: Hardware, problems: Sequence[Problem] = ()
) -> PostMortem | None:
    """Writes the file. Returns None for a run that finished or was refused; never raises on a full disk."""
    if outcome.ending not in MEANING:
        return None
    progress = evidence.progress
    situation = Situation(
        plan,
        progress.phase,
        progress.step,
        root_exit(evidence),
        memory_use(evidence),
        has_checkpoint=bool(progress.checkpoints),
    )
    unhealthy = progress.precision_events[-SHOWN_LINES:]
    suggestions = tuple(advise(outcome.ending, situation, hardware))
    sections = [
        _head(plan, outcome, evidence),
        _problems(problems),
        _block("Last unhealthy steps", [_unhealthy(event) for event in unhealthy]),
        *([] if outcome.ending in EXPLAINED else [_ranks(evidence), _exception(evidence), _logs(evidence)]),
        _block("Memory and disk", draw(evidence.samples)),
        _predictions(plan, outcome, evidence, hardware),
        _advice(plan, suggestions),
    ]
    text = redact("\n\n".join(section for section in sections if section), plan.experiment.tracking.uri)
    path = None
    with suppress(OSError):
        path = write_text(folder_of(plan).attempt.postmortem, text + "\n")
    return PostMortem(text, suggestions, path)


def _head(plan: Plan, outcome: Outcome, evidence: Evidence) -> str:
    progress = evidence.progress
    rows = {
        "reason": outcome.reason,
        "rank": "" if outcome.failed_rank is None else str(outcome.failed_rank),
        "phase": progress.phase,
        "last step": str(progress.step) if progress.step else "",
        "checkpoints": ", ".join(each.path for each in progress.checkpoints),
        "exit code": str(int(outcome.exit_code)),
        "MLflow": "" if outcome.ending == "environment" else outcome.mlflow_status,
        "run folder": plan.run_dir,
        "command": f"`{command_line(plan, ())}`",
    }
    table = [f"| {name} | {_cell(value)} |" for name, value in rows.items() if value]
    title = f"# Post-mortem: {outcome.ending}"
    return "\n".join([title, "", MEANING[outcome.ending], "", "| | |", "|---|---|", *table])


def _problems(problems: Sequence[Problem]) -> str:
    return _block("What is missing", [line for problem in problems for line in str(problem).splitlines()])


def _unhealthy(event: Overflow | NonFiniteLoss) -> str:
    """A skipped step or a non-finite loss, as one line."""
    if isinstance(event, NonFiniteLoss):
        norm = "" if event.grad_norm is None else f", gradient norm {event.grad_norm}"
        return f"step {event.step}: loss {event.loss}{norm}"
    before, after = event.scale_before, event.scale_after
    scale = "" if before is None else f", loss scale {number(before)} -> {number(after)}"
    return f"step {event.step}: skipped, gradients not finite{scale}"


def _ranks(evidence: Evidence) -> str:
    """How the process of each rank ended, or the state it was in."""
    lines = [
        f"rank {each.rank}: {each.signal_name or f'exit code {each.exit_code}'}"
        for each in evidence.rank_exits
    ]
    states = evidence.silence.states if evidence.silence else {}
    return _block("Ranks", [*lines, *(f"rank {rank}: {state}" for rank, state in states.items())])


def _exception(evidence: Evidence) -> str:
    error = root_error(evidence)
    if error is None:
        return ""
    lines = (error.traceback or error.message).splitlines()
    return _block(f"The exception of rank {error.rank}", lines[-TRACEBACK_LINES:])


def _logs(evidence: Evidence) -> str:
    """Of the ranks whose end the exception does not explain; of the launcher if no rank logged anything."""
    error = root_error(evidence)
    explained = {error.rank} if error is not None else set()
    parts = [
        _block(f"Last lines of rank {rank}", lines)
        for rank, lines in evidence.lines.items()
        if rank not in explained
    ]
    if not explained and not any(evidence.lines.values()):
        parts.append(_block("Last lines of the launcher", evidence.launcher_lines))
    return "\n\n".join(part for part in parts if part)


def _predictions(plan: Plan, outcome: Outcome, evidence: Evidence, hardware: Hardware) -> str:
    rows = compare(plan, evidence, hardware)
    if not rows:
        return ""
    table = [f"| {row.what} | {row.predicted} | {row.measured} |" for row in rows]
    head = ["## Predicted and measured", "", "| | predicted | measured |", "|---|---|---|"]
    return "\n".join([*head, *table, *(f"\n{line}" for line in deviation(plan, outcome.ending, evidence))])


def _advice(plan: Plan, suggestions: Sequence[Suggestion]) -> str:
    if not suggestions:
        return ""
    lines = [
        "## What to try",
        "",
        "Best first. Each one has been compiled: it is accepted, and it changes the plan.",
        "",
    ]
    for place, suggestion in enumerate(suggestions, start=1):
        overrides = " ".join(suggestion.overrides)
        lines += [f"{place}. `{overrides}`: {suggestion.why}", ""]
    first = command_line(plan, suggestions[0].overrides)
    return "\n".join([*lines, "The command with the first one is", "", f"    {first}"])


def _block(title: str, lines: Sequence[str]) -> str:
    """A heading and the lines as preformatted text; empty without lines."""
    return "\n".join([f"## {title}", "", *(f"    {line}" for line in lines)]) if lines else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
