"""Names and options of other tools → the overrides that mean the same in zpipe, as a problem's fix."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from zpipe.compose.accepted import accepted
from zpipe.compose.option_folders import known_options
from zpipe.machine.cards import GROUP, described_as
from zpipe.problems import Problem, either, nearest
from zpipe.resources import config_groups
from zpipe.schema.synonyms import OPTIONS, RENAMED, SWITCHED, UNSUPPORTED, UNSUPPORTED_OPTIONS

_IMPORT = "zpipe import {}"
_CONFIGURATIONS = (".json", ".yaml", ".yml")
_DATA_FILES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".arrow", ".txt")


def translated_key(key: str, value: str, in_block: bool = False) -> Problem | None:
    """The problem with a key that is another tool's name; None if it is not in the table.

    A key that is in a block of DeepSpeed's own is not looked up by its last part: names are short there.
    """
    names = [name for name in _names(key) if "." in name or not in_block]
    for name in names:
        if name in UNSUPPORTED:
            return Problem(key, value, UNSUPPORTED[name])
        if name in SWITCHED:
            return _switched(key, value, SWITCHED[name])
        if name in RENAMED:
            return _renamed(key, value, RENAMED[name])
    block = (
        None if in_block else next((part for part in _normal(key).split(".") if part in UNSUPPORTED), None)
    )
    return Problem(key, value, UNSUPPORTED[block]) if block is not None else None


def option_problem(group: str, option: str, reason: str = "no such option") -> Problem:
    """The problem with an option that the group does not have."""
    allowed, name = ", ".join(known_options(group)), _normal(option)
    if name in UNSUPPORTED_OPTIONS.get(group, {}):
        instead = OPTIONS.get(group, {}).get(name)
        fix = either(instead) if instead else ""
        return Problem(group, option, UNSUPPORTED_OPTIONS[group][name], allowed, fix)
    place = _place(group, option)
    if place:
        return Problem(group, option, f"{reason}: a model or a dataset has its own key", allowed, place)
    if group == GROUP:
        return Problem(group, option, reason, allowed, either(*described_as(option, known_options(group))))
    same = [known for known in known_options(group) if _normal(known) == name]
    known = OPTIONS.get(group, {}).get(name) or " or ".join(
        f"{group}={near}" for near in same or nearest(option, known_options(group))
    )
    return Problem(group, option, reason, allowed, known)


def _place(group: str, option: str) -> str:
    """Where a path or hub id belongs that was given as an option."""
    if group == "model" and ("/" in option or Path(option).is_dir()):
        return accepted([("model.name_or_path", option)])
    if group == "data" and ("/" in option or Path(option).suffix in _DATA_FILES or Path(option).exists()):
        return accepted([("data.path", option)])
    return ""


def _switched(key: str, value: str, meanings: Mapping[str, str]) -> Problem:
    allowed = ", ".join(dict.fromkeys(meanings.values()))
    return Problem(key, value, "zpipe has another name for this", allowed, meanings.get(_normal(value), ""))


def _renamed(key: str, value: str, template: str) -> Problem:
    reason = "zpipe has another name for this"
    if template == _IMPORT:
        fix = template.format(value) if value.endswith(_CONFIGURATIONS) else ""
        return Problem(key, value, "zpipe writes DeepSpeed's JSON; it can import yours", "overrides", fix)
    pairs = [tuple(part.split("=", 1)) for part in template.split()]
    target = next(name for name, given in pairs if given == "{}")
    fix = accepted((name, given.format(value)) for name, given in pairs)
    if not fix and target in config_groups():
        fix = option_problem(target, value).fix
    return Problem(key, value, reason, target, fix)


def _names(key: str) -> Iterator[str]:
    """The key, the key without its first part, and so on to its last part."""
    name = _normal(key)
    yield name
    while "." in name:
        name = name.partition(".")[2]
        yield name


def _normal(text: str) -> str:
    return text.strip("'\"").lower().replace("-", "_")
