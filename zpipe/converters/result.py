"""What was found in the files: options and values in zpipe's words, notes and problems."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from zpipe.problems import Problem


@dataclass(frozen=True)
class Finding:
    """A problem of an imported file, and what `--mend` does about it."""

    problem: Problem
    mended: str = ""
    """Empty where only the user can decide."""


@dataclass
class Found:
    """Filled by the readers of the three formats, in any order, and settled once all files are read."""

    options: dict[str, str] = field(default_factory=dict)
    """Chosen option of each group."""
    values: dict[str, Any] = field(default_factory=dict)
    """Value of each dotted key of the Experiment."""
    sources: dict[str, str] = field(default_factory=dict)
    """For each key of the Experiment the name under which a file gave it."""
    fixed: frozenset[str] = frozenset()
    """Groups and keys given on the command line, which win over the files."""
    json_seen: bool = False
    """Whether a DeepSpeed JSON was among the files."""
    arguments_seen: bool = False
    """Whether TrainingArguments were."""
    formats: dict[str, Any] = field(default_factory=dict)
    """fp16 and bf16 of the JSON, whose settings act only under the precision that is chosen in the end."""
    present: set[str] = field(default_factory=set)
    """Keys of the JSON that were there, `auto` or not."""
    notes: list[Problem] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def put(self, key: str, value: Any, source: str) -> None:
        """Takes a value over; what says the same setting twice must say the same, as transformers demands."""
        if key in self.fixed:
            return
        if key in self.values and not same(self.values[key], value):
            reason = f"contradicts {self.sources[key]}={self.values[key]}"
            fix = f"{key}={self.values[key]} or {key}={value} behind the files"
            self.refuse(Problem(source, value, reason, "the same in both", fix))
            return
        self.values[key] = value
        self.sources[key] = source

    def choose(self, group: str, option: str) -> None:
        """Takes an option, unless the command line has chosen one."""
        if group not in self.fixed:
            self.options[group] = option

    def refuse(self, problem: Problem, mended: str = "") -> None:
        self.findings.append(Finding(problem, mended))

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
    """A value for a message: blocks and long lists are not spelled out."""
    if isinstance(value, Mapping):
        return "{…}" if value else "{}"
    return "[…]" if isinstance(value, list) and len(value) > 4 else value


def whole(value: Any) -> Any:
    """1e9 of a JSON is the number 1000000000.0, and means 1000000000."""
    if isinstance(value, float) and value.is_integer() and 1 <= abs(value) < 1e15:
        return int(value)
    return value
