"""Compares the settings that DeepSpeed, accelerate and the Trainer run with to the plan."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from zpipe.plans.plan import Plan
from zpipe.runfolder import events
from zpipe.runfolder.event_file import Reporter
from zpipe.train.engine_settings import MISSING, parsed_value, running_values
from zpipe.trees import leaves

COSMETIC = (
    "wall_clock_breakdown",
    "memory_breakdown",
    "dump_state",
    "log_level",
    "vocabulary_size",
    "flops_profiler",
    "comms_logger",
    "timers",
    "tensorboard",
    "csv_monitor",
    "wandb",
    "comet",
)
"""Top-level keys and blocks that affect neither memory use nor results."""


class EngineDiffersError(RuntimeError):
    """The engine runs with other settings than the plan's."""


@dataclass(frozen=True)
class Difference:
    """A setting whose value in the engine differs from the plan."""

    key: str
    planned: Any
    real: Any

    @property
    def is_serious(self) -> bool:
        return self.key.partition(".")[0] not in COSMETIC

    def as_event(self) -> events.Difference:
        return events.Difference(
            key=self.key, planned=_shown(self.planned), real=_shown(self.real), serious=self.is_serious
        )

    def __str__(self) -> str:
        real = "not read by DeepSpeed" if self.real is MISSING else f"runs with {_shown(self.real)}"
        return f"{self.key}: planned {_shown(self.planned)}, {real}"


def check_engine(trainer: Any, plan: Plan, reporter: Reporter) -> None:
    """Reports every difference; raises EngineDiffersError if the plan's `strict` requires it.

    Call this on every rank once the engine exists. All ranks reach the same result.
    """
    found = list(differences(trainer, plan))
    for each in found:
        reporter.report(each.as_event())
    strict = plan.experiment.strict
    fatal = [each for each in found if strict or (strict is None and each.is_serious)]
    if fatal:
        listed = "; ".join(map(str, fatal))
        raise EngineDiffersError(f"DeepSpeed differs from the plan (strict=false trains anyway): {listed}")


def differences(trainer: Any, plan: Plan) -> Iterator[Difference]:
    """Differences in the parsed JSON first, then in the running engine."""
    engine = trainer.model_wrapped
    for key, planned in leaves(plan.ds_config):
        real = parsed_value(engine, key)
        if planned not in ("auto", {}) and not _same(planned, real):
            yield Difference(key, planned, real)
    for key, (planned, real) in running_values(engine, trainer, plan).items():
        if not _same(planned, real):
            yield Difference(key, planned, real)


def _same(planned: Any, real: Any) -> bool:
    if isinstance(planned, list | tuple) and isinstance(real, list | tuple):
        return list(planned) == list(real)
    if isinstance(planned, str) and isinstance(real, str):
        return planned.lower() == real.lower()
    return bool(planned == real)


def _shown(value: Any) -> str:
    return "nothing" if value is MISSING or value is None else str(value)
