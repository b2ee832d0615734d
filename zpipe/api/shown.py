"""What `zpipe.plan` and `zpipe.run` return: values that show themselves in a notebook and in a terminal.

They hold what the caller gave, secrets included, and show none.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from zpipe.plans.plan import Plan, without_secrets
from zpipe.problems import Refusal
from zpipe.redact import redact
from zpipe.runfolder.events import Metrics
from zpipe.runfolder.folder import RunFolder
from zpipe.runfolder.outcome import Outcome
from zpipe.runfolder.plan_file import read_plan_here
from zpipe.runfolder.progress import RunProgress
from zpipe.runfolder.run_events import RunEvents
from zpipe.terminal.console import clean
from zpipe.terminal.html import html_details, html_table
from zpipe.terminal.plan_text import facts, launch_command
from zpipe.terminal.summary import summary_rows, summary_table_of

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult


class _Shown:
    """Shows the rows of a value, as text and as rich."""

    def __repr__(self) -> str:
        return _text(self._rows())

    __str__ = __repr__

    def __repr_args__(self) -> Iterator[tuple[str, Any]]:
        """For pretty-printers, which would show every field."""
        yield from self._rows().items()

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        yield summary_table_of(self._rows())

    def _rows(self) -> dict[str, str]:
        raise NotImplementedError


class ShownPlan(_Shown, Plan):
    """A plan that a notebook shows as a table, with DeepSpeed's JSON and the command folded away."""

    @classmethod
    def of(cls, plan: Plan) -> Self:
        return cls.model_construct(**dict(plan))

    def _repr_html_(self) -> str:
        safe = without_secrets(self)
        parts = [html_table(self._rows().items()), html_details("ds_config.json", _json(safe.ds_config))]
        parts += [html_details(name, text) for name, text in safe.launch.files.items()]
        if safe.launch.argv:
            parts.append(html_details("command", launch_command(safe)))
        return "".join(parts)

    def _rows(self) -> dict[str, str]:
        from zpipe.record.facts import run_name

        safe = without_secrets(self)
        experiment = safe.experiment
        rows = {
            "run": run_name(safe),
            "stage": f"{experiment.stage.stage}, {_offload(safe)}, {safe.precision}",
            "run folder": safe.run_dir,
        }
        for title, text in facts(safe):
            rows[title] = f"{rows[title]}\n{text}" if title in rows else text
        return rows


class ShownOutcome(_Shown, Outcome):
    """How a run ended, with its figures, as a notebook shows it."""

    @classmethod
    def of(cls, outcome: Outcome) -> Self:
        return cls.model_construct(**dict(outcome)).with_problems(outcome.problems)

    def series(self, name: str) -> list[tuple[int, float]]:
        """Step and value of a metric of the run, such as `loss`, in order; empty if it was not reported."""
        events = RunEvents(RunFolder(Path(self.run_dir))).read_new()
        reported = (event for event in events if isinstance(event, Metrics))
        return [(event.step, event.values[name]) for event in reported if name in event.values]

    def _repr_html_(self) -> str:
        return html_table(self._rows().items())

    def _rows(self) -> dict[str, str]:
        """What the summary at the end of a run has, as far as the run folder is still there."""
        folder = RunFolder(Path(self.run_dir))
        rows = {"ending": self.ending, "reason": redact(self.reason)}
        try:
            plan, progress = read_plan_here(folder), RunProgress.of(RunEvents(folder).read_new())
        except (Refusal, OSError):
            figures = {"run folder": self.run_dir, "MLflow run": self.mlflow_run_id or ""}
        else:
            figures = summary_rows(plan, self.summary, progress, self.mlflow_run_id)
        rows |= figures
        rows["MLflow is incomplete"] = redact(self.record_error or "")
        return {title: text for title, text in rows.items() if text}


def _text(rows: Mapping[str, str]) -> str:
    lines = ((title, line) for title, text in rows.items() for line in clean(text).splitlines())
    return "\n".join(f"{title:<12} {line}".rstrip() for title, line in lines)


def _offload(plan: Plan) -> str:
    offload = plan.experiment.offload
    parts = {"optimizer": offload.offload_optimizer.device, "parameters": offload.offload_param.device}
    named = [f"{name} on {device}" for name, device in parts.items() if device != "none"]
    return f"offload: {', '.join(named)}" if named else "no offload"


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
