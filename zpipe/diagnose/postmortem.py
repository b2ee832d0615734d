"""`postmortem.md` in the run folder, and the same in short for the terminal."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from zpipe.diagnose.advice import advise, command_line
from zpipe.diagnose.curve import draw
from zpipe.diagnose.descriptions import MEANING
from zpipe.diagnose.evidence import Evidence
from zpipe.diagnose.predictions import compare
from zpipe.diagnose.remedies import Situation, Suggestion
from zpipe.diagnose.root_cause import root_death, root_error
from zpipe.machine.hardware import Hardware
from zpipe.plan.plan import Plan, write_text
from zpipe.problems import Problem
from zpipe.redact import redact
from zpipe.runfolder.event_file import Event
from zpipe.runfolder.outcome import POSTMORTEM, STOPPED, Outcome
from zpipe.terminal.units import number

TRACEBACK_LINES = 30
EXPLAINED = STOPPED | {"nonfinite_loss", "loss_scale_stuck"}
"""Endings that zpipe brought about: what the processes say at such an end is noise."""


@dataclass(frozen=True)
class PostMortem:
    """What is told about one run; `path` is null where the file could not be written."""

    text: str
    suggestions: tuple[Suggestion, ...]
    path: Path | None = None


def write_postmortem(
    plan: Plan, outcome: Outcome, evidence: Evidence, hardware: Hardware, problems: Sequence[Problem] = ()
) -> PostMortem | None:
    """Writes the file; None for a run that finished or was refused. Never raises for want of room."""
    if outcome.ending not in MEANING:
        return None
    heard = evidence.heard
    situation = Situation(plan, heard.phase, heard.step, root_death(evidence))
    suggestions = tuple(advise(outcome.ending, situation, hardware))
    sections = [
        _head(plan, outcome, evidence),
        _problems(problems),
        _block("Last signs", [_sign(event) for event in heard.unhealthy]),
        *([] if outcome.ending in EXPLAINED else [_ranks(evidence), _exception(evidence), _logs(evidence)]),
        _block("Memory and disk", draw(evidence.samples)),
        _predictions(plan, evidence, hardware),
        _advice(plan, suggestions),
    ]
    text = redact("\n\n".join(section for section in sections if section), plan.experiment.tracking.uri)
    path = None
    with suppress(OSError):
        path = write_text(plan.folder / POSTMORTEM, text + "\n")
    return PostMortem(text, suggestions, path)


def _head(plan: Plan, outcome: Outcome, evidence: Evidence) -> str:
    heard = evidence.heard
    rows = {
        "reason": outcome.reason,
        "rank": "" if outcome.failed_rank is None else str(outcome.failed_rank),
        "phase": heard.phase,
        "last step": str(heard.step) if heard.step else "",
        "checkpoints": ", ".join(heard.checkpoints),
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


def _sign(event: Event) -> str:
    """A skipped step or a loss that is not finite, as a line."""
    if event["event"] == "nonfinite":
        norm = event.get("grad_norm")
        return f"step {event['step']}: loss {event['loss']}" + (f", gradient norm {norm}" if norm else "")
    before, after = event.get("scale_before"), event.get("scale_after")
    scale = "" if before is None else f", loss scale {number(before)} -> {number(after)}"
    return f"step {event['step']}: skipped, gradients not finite{scale}"


def _ranks(evidence: Evidence) -> str:
    """How the processes of the ranks ended, or what they were doing."""
    lines = [
        f"rank {death.rank}: {death.signal_name or f'exit code {death.exit_code}'}"
        for death in evidence.deaths
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
    """Of the ranks whose end is not explained by the exception; of the launcher if there are none."""
    error = root_error(evidence)
    told = {error.rank} if error is not None else set()
    parts = [
        _block(f"Last lines of rank {rank}", lines)
        for rank, lines in evidence.lines.items()
        if rank not in told
    ]
    if not told and not any(evidence.lines.values()):
        parts.append(_block("Last lines of the launcher", evidence.launcher_lines))
    return "\n\n".join(part for part in parts if part)


def _predictions(plan: Plan, evidence: Evidence, hardware: Hardware) -> str:
    rows = compare(plan, evidence.samples, hardware)
    if not rows:
        return ""
    table = [f"| {row.what} | {row.predicted} | {row.measured} |" for row in rows]
    head = ["## Predicted and measured", "", "| | predicted | measured |", "|---|---|---|"]
    return "\n".join([*head, *table])


def _advice(plan: Plan, suggestions: Sequence[Suggestion]) -> str:
    if not suggestions:
        return ""
    lines = [
        "## What to try",
        "",
        "Best first. Each was put through the compiler: it is accepted, and it changes something.",
        "",
    ]
    for place, suggestion in enumerate(suggestions, start=1):
        overrides = " ".join(suggestion.overrides)
        lines += [f"{place}. `{overrides}`: {suggestion.why}", ""]
    first = command_line(plan, suggestions[0].overrides)
    return "\n".join([*lines, "With the first one the command is", "", f"    {first}"])


def _block(title: str, lines: Sequence[str]) -> str:
    """A heading and lines as they are; nothing without lines."""
    return "\n".join([f"## {title}", "", *(f"    {line}" for line in lines)]) if lines else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
