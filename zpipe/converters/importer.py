"""Files → overrides that compile back to the same, with everything named that is not the same."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from zpipe import checks
from zpipe.compose.compose import compose_once
from zpipe.compose.overrides import IMPLIED, rewrite
from zpipe.compose.validation import validated
from zpipe.converters.accelerate import (
    MARKS,
    PLUGIN,
    block_of,
    plugin_stranger,
    read_accelerate,
    zero_json,
)
from zpipe.converters.deepspeed_json import blocks, leaves, read_deepspeed
from zpipe.converters.reading import read
from zpipe.converters.resolve import absent_in_the_json, settle
from zpipe.converters.result import Finding, Found, same
from zpipe.converters.training_arguments import known_arguments, read_arguments
from zpipe.converters.writing import overrides_of
from zpipe.facts.facts import gather
from zpipe.machine.hardware import Gpu, Hardware
from zpipe.problems import Problem, Refusal
from zpipe.resources import config_groups
from zpipe.schema.removed import KEYS as REMOVED
from zpipe.trees import set_at, value_at

UNSEEN_MODEL = "org/not-here"
"""Stands for the model while rules are checked: an import may not depend on the default one."""

GPU = Gpu(name="a GPU", memory=80 * 1024**3, compute_capability=(9, 0))
ROUNDS = 20
NOT_VALID = "not a valid value"


@dataclass(frozen=True)
class Imported:
    """What a recipe or a command line needs, and everything that the user should know about it."""

    options: dict[str, str]
    values: dict[str, Any]
    notes: tuple[Problem, ...]
    findings: tuple[Finding, ...]

    @property
    def overrides(self) -> list[str]:
        return overrides_of(self.options, self.values)


def import_files(files: Sequence[Path], given: Sequence[str] = (), mend: bool = False) -> Imported:
    """Reads the files together; `given` overrides win over them.

    With `mend`, settings that a rule refuses take the value that the rule proposes for them.
    Raises Refusal for files that cannot be read and overrides that cannot be parsed.
    """
    found = _with_overrides(given)
    for file in files:
        content, repairs = read(file)
        found.findings += repairs
        _read_by_kind(file, content, found)
    settle(found)
    _imply_options(found)
    return _checked(found, mend)


def _with_overrides(given: Sequence[str]) -> Found:
    rewrite(given)
    found = Found()
    for text in given:
        key, equals, value = text.lstrip("+").partition("=")
        if not equals or key.startswith(("~", "hydra")):
            reason = "an import takes options and values alone"
            raise Refusal([Problem(text, "", reason, "GROUP=OPTION and GROUP.KEY=VALUE")])
        if key in config_groups():
            found.options[key] = value.strip("'\"")
        else:
            found.values[key] = _value(value)
            found.sources[key] = key
    found.fixed = frozenset({*found.options, *found.values})
    return found


def _value(text: str) -> Any:
    """What YAML reads in an override's value; text that is no YAML, such as @home, is itself."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _read_by_kind(file: Path, content: dict[str, Any], found: Found) -> None:
    if set(content) & MARKS:
        read_accelerate(content, found)
        _plugin(file, block_of(content, "deepspeed_config", found), found)
    elif _speaks_of_arguments(content):
        read_arguments(content, found)
        _nested(file, content.get("deepspeed"), found)
    else:
        read_deepspeed(content, found)


def _speaks_of_arguments(content: Mapping[str, Any]) -> bool:
    """Whether more of the names are TrainingArguments' than are DeepSpeed's."""
    top = {key.partition(".")[0] for key in leaves()} | set(REMOVED)
    theirs = [
        name for name, value in content.items() if name in top and _is_block(name) == isinstance(value, dict)
    ]
    return len(set(content) & known_arguments()) > len(theirs)


def _is_block(name: str) -> bool:
    return name in blocks() or name == "amp"


def _plugin(file: Path, plugin: Mapping[str, Any], found: Found) -> None:
    path = plugin.get("deepspeed_config_file")
    if path is None:
        read_deepspeed(zero_json(plugin, found), found)
        return
    for name, value in plugin.items():
        if name in PLUGIN:
            problem = Problem(
                f"deepspeed_config.{name}", value, "accelerate takes it from deepspeed_config_file"
            )
            found.refuse(problem, "left out")
        elif name != "deepspeed_config_file":
            plugin_stranger(name, value, found)
    _nested(file, path, found)


def _nested(file: Path, value: Any, found: Found) -> None:
    """A DeepSpeed JSON inside another file, or the path of one, from here or from beside that file."""
    if value is None:
        return
    if isinstance(value, Mapping):
        read_deepspeed(value, found)
        return
    places = [Path(str(value)).expanduser(), file.parent / str(value)]
    content, repairs = read(next((place for place in places if place.is_file()), places[0]))
    found.findings += repairs
    read_deepspeed(content, found)


def _imply_options(found: Found) -> None:
    """A model's path chooses model=pretrained: a recipe, unlike a command line, has to say so."""
    for key, (group, option) in IMPLIED.items():
        if found.values.get(key) is not None:
            found.options.setdefault(group, option)


def _checked(found: Found, mend: bool) -> Imported:
    """Composes, lets the rules speak, and with `mend` does what they propose, until they are silent."""
    try:
        bare = _composed(found)
    except Refusal as refusal:
        for problem in refusal.problems:
            found.refuse(_named(problem, found))
        return Imported(found.options, found.values, tuple(found.notes), tuple(found.findings))
    found.values.update(absent_in_the_json(found, bare))
    for _ in range(ROUNDS):
        problems = _problems(found, bare)
        fixes = [(problem, fix) for problem in problems if (fix := _own_fix(problem, found)) is not None]
        if not mend or not fixes:
            break
        for problem, fix in fixes:
            _apply(problem, fix[0], found)
    for problem in problems:
        found.refuse(_named(problem, found))
    values = _needed(found, bare)
    return Imported(found.options, values, tuple(found.notes), tuple(found.findings))


def _composed(found: Found) -> dict[str, Any]:
    """The experiment of the options alone."""
    has_model = "model" in found.options or "recipe" in found.options
    stand_in = [] if has_model else [f"model.name_or_path={UNSEEN_MODEL}"]
    return compose_once(rewrite([*overrides_of(found.options, {}), *stand_in])).experiment.model_dump()


def _problems(found: Found, bare: dict[str, Any]) -> list[Problem]:
    """What validation and the rules refuse, on as many GPUs as the files speak of."""
    try:
        experiment = validated(_with_values(bare, found.values))
        return checks.problems(experiment, gather(experiment, _machine(found)))
    except Refusal as refusal:
        return list(refusal.problems)


def _with_values(bare: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    tree = copy.deepcopy(bare)
    for key, value in values.items():
        set_at(tree, key, value)
    return tree


def _machine(found: Found) -> Hardware:
    size = found.values.get
    processes = size("launcher.nproc_per_node") or size("stage.zero_hpz_partition_size")
    total, micro = size("batch.train_batch_size"), size("batch.per_device_train_batch_size")
    accumulation = size("batch.gradient_accumulation_steps")
    if processes is None and all(isinstance(each, int) and each > 0 for each in (total, micro, accumulation)):
        processes = max(1, total // (micro * accumulation))  # type: ignore[operator]
    count = processes if isinstance(processes, int) and 0 < processes <= 4096 else 1
    return Hardware(gpus=(GPU,) * count, cores=8 * count, memory=count * 256 * 1024**3)


def _own_fix(problem: Problem, found: Found) -> tuple[Any] | None:
    """The value that a rule proposes for the refused key itself, if it is a key that a file gave."""
    if problem.key not in found.values or problem.key in found.fixed:
        return None
    if problem.reason == NOT_VALID:
        return (None,)
    for alternative in problem.fix.split(", or "):
        key, equals, value = alternative.partition("=")
        if equals and key == problem.key and " " not in alternative:
            return (yaml.safe_load(value),)
    return None


def _apply(problem: Problem, value: Any, found: Found) -> None:
    if problem.reason == NOT_VALID:
        del found.values[problem.key]
        found.refuse(_named(problem, found), "left out")
    else:
        found.values[problem.key] = value
        found.refuse(_named(problem, found), f"{problem.key}={'null' if value is None else value}")


def _named(problem: Problem, found: Found) -> Problem:
    """The problem under the name by which the user's file has the key."""
    source = found.sources.get(problem.key, problem.key)
    return Problem(source, problem.value, problem.reason, problem.allowed, problem.fix)


def _needed(found: Found, bare: dict[str, Any]) -> dict[str, Any]:
    """The values that the options do not bring already; those that a model's option may set stay."""
    return {
        key: value
        for key, value in found.values.items()
        if key.startswith(("train.", "batch.")) or key in found.fixed or not same(value_at(bare, key), value)
    }
