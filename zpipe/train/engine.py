"""Holds what DeepSpeed, accelerate and the Trainer really run against the plan."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from zpipe.plan.plan import Plan
from zpipe.runfolder import events
from zpipe.runfolder.event_file import Reporter
from zpipe.train.engine_settings import MISSING, parsed, running
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
"""Top-level keys and blocks that change neither memory nor results."""


class EngineDiffersError(RuntimeError):
    """What runs is not what was planned."""


@dataclass(frozen=True)
class Difference:
    """One setting that runs with another value than the plan's."""

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
        real = "not read at all" if self.real is MISSING else f"runs with {_shown(self.real)}"
        return f"{self.key}: planned {_shown(self.planned)}, {real}"


def check_engine(trainer: Any, plan: Plan, reporter: Reporter) -> None:
    """Reports every difference. Raises EngineDiffersError where the plan's `strict` asks for it.

    To be called on every rank, once the engine exists: all ranks come to the same result.
    """
    found = list(differences(trainer, plan))
    for each in found:
        reporter.report(each.as_event())
    strict = plan.experiment.strict
    fatal = [each for each in found if strict or (strict is None and each.is_serious)]
    if fatal:
        listed = "; ".join(map(str, fatal))
        raise EngineDiffersError(f"DeepSpeed does not run what was planned (strict=false goes on): {listed}")


def differences(trainer: Any, plan: Plan) -> Iterator[Difference]:
    """First what DeepSpeed read from the JSON, then what runs."""
    engine = trainer.model_wrapped
    for key, planned in leaves(plan.ds_config):
        real = parsed(engine, key)
        if planned not in ("auto", {}) and not _same(planned, real):
            yield Difference(key, planned, real)
    for key, (planned, real) in running(engine, trainer, plan).items():
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
