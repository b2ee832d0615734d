"""The result of an import while files are being read: options, values, notes and problems."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from zpipe.problems import Problem


@dataclass(frozen=True)
class Finding:
    """A problem of an imported file."""

    problem: Problem
    automatic_fix: str = ""
    """What `--fix` does about it; empty if only the user can decide."""


@dataclass
class Draft:
    """Filled by the readers of the three formats in any order, and resolved once all files are read."""

    options: dict[str, str] = field(default_factory=dict)
    """Chosen option of each config group."""
    values: dict[str, Any] = field(default_factory=dict)
    """Value of each dotted key of the Experiment."""
    sources: dict[str, str] = field(default_factory=dict)
    """For each key of the Experiment, the key that set it in the imported file."""
    overridden: frozenset[str] = frozenset()
    """Groups and keys given on the command line, which take precedence over the files."""
    has_json: bool = False
    """Whether a DeepSpeed JSON was read."""
    has_arguments: bool = False
    """Whether TrainingArguments were read."""
    pending: dict[str, Any] = field(default_factory=dict)
    """Settings that depend on several files: `fp16` and `bf16` of the JSON, and of TrainingArguments
    `argument.fp16`, `argument.bf16`, `argument.tf32`, `argument.optim` and `argument.lr_scheduler_type`;
    `accelerate.mixed_precision`; and `json.optimizer`, the type of the JSON's optimizer."""
    present: set[str] = field(default_factory=set)
    """Keys of the JSON that are set, to `auto` or to a value."""
    ignored: dict[str, Any] = field(default_factory=dict)
    """Keys of the JSON that DeepSpeed does not know and ignores."""
    notes: list[Problem] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def put(self, key: str, value: Any, source: str) -> None:
        """Sets a value. Two files must agree on it, as transformers requires; otherwise it is a problem."""
        if key in self.overridden:
            return
        if key in self.values and not same(self.values[key], value):
            reason = f"contradicts {self.sources[key]}={self.values[key]}"
            fix = f"add {key}={self.values[key]} or {key}={value} after the file names"
            self.refuse(Problem(source, value, reason, "the same value in both", fix))
            return
        self.values[key] = value
        self.sources[key] = source

    def choose(self, group: str, option: str) -> None:
        """Sets the option of a group, unless the command line sets it."""
        if group not in self.overridden:
            self.options[group] = option

    def refuse(self, problem: Problem, automatic_fix: str = "") -> None:
        self.findings.append(Finding(problem, automatic_fix))

    def note(self, key: str, value: Any, reason: str, fix: str = "") -> None:
        self.notes.append(Problem(key, brief(value), reason, fix=fix))


def same(one: Any, other: Any) -> bool:
    """Equality of values that YAML may have read as text."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return bool(one == other) or str(one) == str(other) or _number(one) == _number(other) is not None


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def brief(value: Any) -> object:
    """A value for a message, with blocks and long lists abbreviated."""
    if isinstance(value, Mapping):
        return "{…}" if value else "{}"
    return "[…]" if isinstance(value, list) and len(value) > 4 else value


def whole(value: Any) -> Any:
    """Converts whole floats to int: JSON parsers read 1e9 as 1000000000.0."""
    if isinstance(value, float) and value.is_integer() and 1 <= abs(value) < 1e15:
        return int(value)
    return value
