"""Converts files to overrides that compile to an equivalent JSON, and reports every difference."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from zpipe.compose.overrides import rewrite
from zpipe.compose.recipes import IMPLIED
from zpipe.converters.accelerate import (
    PLUGIN,
    SIGNATURE_KEYS,
    block_of,
    other_plugin_key,
    read_accelerate,
    zero_json,
)
from zpipe.converters.checking import check
from zpipe.converters.deepspeed_json import read_deepspeed
from zpipe.converters.json_keys import json_blocks, json_keys
from zpipe.converters.reading import read
from zpipe.converters.resolve import resolve
from zpipe.converters.result import Draft, Finding
from zpipe.converters.training_arguments import known_arguments, read_arguments
from zpipe.converters.writing import overrides_of
from zpipe.paths import expanded
from zpipe.problems import Problem, Refusal
from zpipe.resources import config_groups
from zpipe.schema.removed import KEYS as REMOVED

JSON_OF_ACCELERATE = "deepspeed_config.deepspeed_config_file"


@dataclass(frozen=True)
class Imported:
    """The content of a recipe or a command line, and what the user should know about it."""

    options: dict[str, str]
    values: dict[str, Any]
    notes: tuple[Problem, ...]
    findings: tuple[Finding, ...]

    @property
    def overrides(self) -> list[str]:
        return overrides_of(self.options, self.values)


def import_files(files: Sequence[Path], overrides: Sequence[str] = (), fix: bool = False) -> Imported:
    """Reads the files as one configuration. The overrides take precedence.

    With `fix`, a setting that a rule refuses gets the value that the rule proposes.
    Raises Refusal for unreadable files and overrides.
    """
    draft = _with_overrides(overrides)
    for file in files:
        _read_by_kind(file, _content(file, draft), files, draft)
    resolve(draft)
    _imply_options(draft)
    values = check(draft, fix)
    return Imported(draft.options, values, tuple(draft.notes), tuple(draft.findings))


def _with_overrides(overrides: Sequence[str]) -> Draft:
    rewrite(overrides)
    draft = Draft()
    for text in overrides:
        key, equals, value = text.lstrip("+").partition("=")
        if not equals or key.startswith(("~", "hydra")):
            reason = "an import accepts options and values only"
            raise Refusal([Problem(text, "", reason, "GROUP=OPTION and GROUP.KEY=VALUE")])
        if key in config_groups():
            draft.options[key] = value.strip("'\"")
        else:
            draft.values[key] = _value(value)
            draft.sources[key] = key
    draft.overridden = frozenset({*draft.options, *draft.values})
    return draft


def _value(text: str) -> Any:
    """The value of an override as YAML reads it; text that is not YAML, such as @home, stays text."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _content(file: Path, draft: Draft) -> dict[str, Any]:
    content, found = read(file)
    draft.notes += [each.problem for each in found if each.problem.ignored]
    draft.findings += [each for each in found if not each.problem.ignored]
    return content


def _read_by_kind(file: Path, content: dict[str, Any], files: Sequence[Path], draft: Draft) -> None:
    if set(content) & SIGNATURE_KEYS:
        read_accelerate(content, draft)
        plugin = block_of(content, "deepspeed_config", draft)
        _plugin(plugin, draft)
        _nested_json(file, JSON_OF_ACCELERATE, plugin.get("deepspeed_config_file"), files, draft)
    elif _is_training_arguments(content):
        read_arguments(content, draft)
        _nested_json(file, "deepspeed", content.get("deepspeed"), files, draft)
    else:
        read_deepspeed(content, draft)


def _is_training_arguments(content: Mapping[str, Any]) -> bool:
    """Whether more of the keys belong to TrainingArguments than to DeepSpeed."""
    top_level = {key.partition(".")[0] for key in json_keys()} | set(REMOVED)
    deepspeed_keys = [
        name
        for name, value in content.items()
        if name in top_level and (name in json_blocks() or name == "amp") == isinstance(value, dict)
    ]
    return len(set(content) & known_arguments()) > len(deepspeed_keys)


def _plugin(plugin: Mapping[str, Any], draft: Draft) -> None:
    if plugin.get("deepspeed_config_file") is None:
        read_deepspeed(zero_json(plugin, draft), draft)
        return
    for name, value in plugin.items():
        if name in PLUGIN:
            reason = "accelerate reads it from deepspeed_config_file"
            draft.refuse(Problem(f"deepspeed_config.{name}", value, reason), "left out")
        elif name != "deepspeed_config_file":
            other_plugin_key(name, value, draft)


def _nested_json(file: Path, key: str, value: Any, files: Sequence[Path], draft: Draft) -> None:
    """A DeepSpeed JSON inside another file, or its path."""
    if value is None or value is False:
        return
    if isinstance(value, Mapping):
        read_deepspeed(value, draft)
        return
    named = expanded(str(value))
    if any(other.name == named.name for other in files if other != file):
        return  # given beside this file, and read by itself
    place = _place(file, named)
    if place is None:
        reason = f"no such file, neither here nor in the folder of {file.name} or one above it"
        fix = f"zpipe import {file} PATH/{named.name}"
        draft.refuse(
            Problem(key, str(value), f"{reason}; accelerate and transformers refuse it too", "", fix)
        )
        return
    if place != named:
        draft.note(key, str(value), f"read from {place}")
    read_deepspeed(_content(place, draft), draft)


def _place(file: Path, named: Path) -> Path | None:
    """The named file: relative to this folder, as for the libraries, or to the nearest folder of the file."""
    places = [named, *(folder / named for folder in file.absolute().parents)]
    return next((place for place in places if place.is_file()), None)


def _imply_options(draft: Draft) -> None:
    """A model's path chooses model=pretrained. Command lines imply it; recipes have to name it."""
    for key, (group, option) in IMPLIED.items():
        if draft.values.get(key) is not None:
            draft.options.setdefault(group, option)
