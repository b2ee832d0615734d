"""What the plan chose itself, and what it was compared with."""

from typing import Any

from zpipe.schema.base import Group


class Setting(Group):
    """One value that was chosen."""

    key: str
    value: Any
    reason: str


class Candidate(Group):
    """A combination of settings with what is predicted for it. Null is unknown."""

    differs: dict[str, Any]
    """By key, the values in which it differs from the choice; empty for the choice itself."""
    tokens_per_second: float
    """Of all devices, as predicted."""
    measured_tokens_per_second: float | None = None
    """Of all devices, in a short run."""
    measured_on: str | None = None
    """The day of that run, such as 2026-11-28."""
    probe_failed: str | None = None
    """How that run ended, if it did not finish."""
    gpu_allocated: int | None
    """Bytes of tensors on the fullest GPU."""
    host: int | None
    """Bytes of all ranks of one node."""
    largest: str
    """What most of a step is predicted to be spent on, such as `compute`."""


class AutoChoice(Group):
    """The choice of one plan."""

    groups: list[str]
    """The config groups that were automatic."""
    settings: list[Setting]
    chosen: Candidate | None
    """Null where nothing could be predicted, or where a run goes on."""
    runners_up: list[Candidate] = []
    """Those that were measured by speed, then the next ones, each with another stage, offload or
    recomputation."""
    to_measure: int = 0
    """Combinations that a run measures before it starts, and then chooses again."""
    compared: int = 0
    """Combinations of settings."""
    too_large: int = 0
    """Those of them that are known not to fit."""
    refused: int = 0
    """Those of them that another rule refuses."""
    why: str
    """One sentence, for every value."""
    notes: list[str] = []
    """What was assumed."""
