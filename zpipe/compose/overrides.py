"""Rewrites overrides as typed into the form that Hydra accepts.

Hydra 1.3 refuses whole numbers as options of a group (`stage=3`, `-m stage=2,3`), gives little help with
misspelled names, and requires `+` for keys of open mappings. Each override is parsed with Hydra's own
grammar, its names are checked against the groups and the schema, and it is written back in Hydra's form.
"""

import random
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    Glob,
    IntervalSweep,
    Override,
    QuotedString,
    RangeSweep,
)
from hydra.errors import HydraException
from omegaconf import OmegaConf

from zpipe.compose.accepted import default_override
from zpipe.compose.hydra_names import check_hydra_name
from zpipe.compose.names import OPEN_MAPPINGS, check_key, check_option, is_open_mapping, known_keys
from zpipe.compose.option_folders import known_options, use_search_path
from zpipe.compose.quoting import as_text, quoted_forms
from zpipe.compose.recipes import IMPLIED, RECIPE, implying_keys
from zpipe.compose.sources import use_recipe_folders
from zpipe.compose.translate import option_problem
from zpipe.hydra_text import quoted
from zpipe.paths import expanded
from zpipe.problems import Problem, refuse_if_any
from zpipe.redact import redact_override
from zpipe.resources import config_groups

_LISTS_OF_SLOTS = ("launcher.include", "launcher.exclude")
"""Keys whose commas are DeepSpeed's, as in host-a:0,1. The points of a sweep run on one machine."""

_FOLDERS = ("hydra.run.dir", "hydra.sweep.dir")


@dataclass(frozen=True)
class _Rewritten:
    text: str
    problems: tuple[Problem, ...] = ()
    recipes: tuple[Path, ...] = ()


def rewrite(overrides: Iterable[str]) -> list[str]:
    """The overrides in Hydra's form. Raises Refusal with every unknown name and unreadable override."""
    typed = list(overrides)
    use_recipe_folders(())
    use_search_path(typed)
    results = [_rewrite_one(text) for text in typed]
    refuse_if_any(problem for result in results for problem in result.problems)
    return implied_options([*typed, *_recipe_keys(results)]) + [result.text for result in results]


def given_overrides(hydra: Any) -> tuple[list[str], list[str]]:
    """Hydra's own and the experiment's overrides in the `hydra` part of a configuration, as they were given.

    Reading them from the configuration itself would resolve their interpolations.
    """
    plain = OmegaConf.to_container(hydra.overrides, resolve=False)
    assert isinstance(plain, dict)
    return [str(text) for text in plain["hydra"]], [str(text) for text in plain["task"]]


def as_typed(override: str) -> str:
    """A rewritten override as a user would type it."""
    key, equals, value = override.partition("=")
    plain = value[1:-1] if key in config_groups() and value[:1] == value[-1:] == "'" else value
    return f"{key.removeprefix('++')}{equals}{plain}"


def implied_options(typed: list[str]) -> list[str]:
    """The options that come with typed keys, such as data=files with data.path."""
    keys = {text.partition("=")[0].lstrip("+") for text in typed}
    return [
        f"{group}={option}" for key, (group, option) in IMPLIED.items() if key in keys and group not in keys
    ]


def _rewrite_one(text: str) -> _Rewritten:
    if not _is_unicode(text):
        shown = text.encode("utf-8", "replace").decode()
        return _Rewritten(text, (Problem(shown, "", "has bytes that are not UTF-8", "text in UTF-8"),))
    if text.startswith(f"{RECIPE}=") and _looks_like_path(text.partition("=")[2]):
        return _user_recipes(text.partition("=")[2].split(","))
    if text.startswith("resume="):
        text = f"resume.checkpoint={text.partition('=')[2]}"
    if "=" not in text and not text.startswith("~"):
        return _Rewritten(text, (_bare_word(text),))
    try:
        override = OverridesParser.create().parse_override(text)
    except HydraException as error:
        unknown, readable = _unknown_key(text), as_text(text)
        if unknown is not None:
            return _Rewritten(text, (unknown,))
        return _rewrite_one(readable) if readable is not None else _unreadable(text, error)
    name = override.key_or_group
    if override.is_delete():
        return _Rewritten(text)
    if name.startswith(("hydra.", "hydra/")):
        unknown = check_hydra_name(name, text.partition("=")[2])
        return _Rewritten(_with_home(text, override), (unknown,) if unknown is not None else ())
    if name in config_groups():
        return _group_choice(text, override)
    return _value(text, override)


def _with_home(text: str, override: Override) -> str:
    """The override with `~` replaced in the name of a folder: the shell leaves it alone behind `=`."""
    value = override.value()
    plain = value.text if isinstance(value, QuotedString) else value
    if override.key_or_group not in _FOLDERS or not isinstance(plain, str) or not plain.startswith("~"):
        return text
    return f"{override.get_key_element()}={quoted(str(expanded(plain)))}"


def _is_unicode(text: str) -> bool:
    """Whether it can be written to files. Other bytes of a command line are read as half characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _bare_word(text: str) -> Problem:
    """The problem with a word that sets nothing."""
    allowed, reason = "GROUP=OPTION or KEY=VALUE", "not an override, because it has no ="
    if text in config_groups():
        options = known_options(text)
        return Problem(text, "", reason, allowed, " or ".join(f"{text}={option}" for option in options[:3]))
    if text in known_keys():
        return Problem(text, "", reason, allowed, default_override(text) or f"{text}.KEY=VALUE")
    fix = option_problem("data", text).fix if Path(text).suffix else ""
    return Problem(text, "", reason, allowed, fix or "zpipe --help lists commands, groups and options")


def _unreadable(text: str, error: HydraException) -> _Rewritten:
    is_secret = redact_override(text) != text
    reason = "cannot be read" if is_secret else f"cannot be read: {str(error).splitlines()[0]}"
    exact = "" if is_secret else " or ".join(shlex.quote(form) for form in quoted_forms(text))
    fix = exact or "quote values with special characters for Hydra and for the shell, e.g. 'key=\"a, b\"'"
    return _Rewritten(text, (Problem(text, "", reason, "group=option or group.key=value", fix),))


def _unknown_key(text: str) -> Problem | None:
    """A problem if an unreadable override has an unknown name before its equals sign."""
    key, equals, value = text.partition("=")
    if not equals or not key or key in config_groups():
        return None
    return (check_hydra_name if key.startswith(("hydra.", "hydra/")) else check_key)(key, value)


def _group_choice(text: str, override: Override) -> _Rewritten:
    group, value = override.key_or_group, override.value()
    if value is None:
        return _Rewritten(f"~{group}")  # Hydra does not accept null as an option
    if isinstance(value, IntervalSweep):
        return _Rewritten(text)
    options = [_plain(option) for option in _elements(value, group)]
    problems = tuple(problem for option in options if (problem := check_option(group, option)) is not None)
    quoted = ",".join(f"'{option}'" for option in options)
    if isinstance(value, list):
        quoted = f"[{quoted}]"
    return _Rewritten(f"{override.get_key_element()}={quoted}", problems)


def _value(text: str, override: Override) -> _Rewritten:
    key = override.key_or_group
    problem = check_key(key, text.partition("=")[2])
    if problem is not None:
        return _Rewritten(text, (problem,))
    if key in _LISTS_OF_SLOTS and override.is_sweep_override():
        return _Rewritten(f"{override.get_key_element()}={quoted(text.partition('=')[2])}")
    adds_names = is_open_mapping(key) or (key in OPEN_MAPPINGS and isinstance(override.value(), dict))
    if adds_names and not override.is_add() and not override.is_force_add():
        return _Rewritten(f"++{text}")
    return _Rewritten(text)


def _elements(value: Any, group: str) -> list[Any]:
    if isinstance(value, Glob):
        return list(value.filter(list(config_groups()[group])))
    if not isinstance(value, ChoiceSweep | RangeSweep):
        return list(value) if isinstance(value, list) else [value]
    elements = list(value.range() if isinstance(value, RangeSweep) else value.list)
    if value.shuffle:
        random.shuffle(elements)  # Hydra would shuffle the quoted options into unquoted ones
    return elements


def _plain(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _looks_like_path(value: str) -> bool:
    return value.endswith((".yaml", ".yml")) or "/" in value


def _user_recipes(values: list[str]) -> _Rewritten:
    """One recipe, or several for a sweep; each a path or the name of one of zpipe's own."""
    files = [expanded(value).resolve() for value in values if _looks_like_path(value)]
    problems = [problem for value in values if (problem := _recipe_problem(value)) is not None]
    stems = [file.stem for file in files] + [value for value in values if not _looks_like_path(value)]
    for stem in sorted({stem for stem in stems if stems.count(stem) > 1}):
        reason = "several recipes of a sweep have this file name"
        problems.append(Problem(RECIPE, f"{stem}.yaml", reason, "one file name for each"))
    use_recipe_folders({file.parent for file in files})
    named = ",".join(quoted(Path(value).stem if _looks_like_path(value) else value) for value in values)
    return _Rewritten(f"{RECIPE}={named}", tuple(problems), tuple(files))


def _recipe_problem(value: str) -> Problem | None:
    if not _looks_like_path(value):
        return check_option(RECIPE, value)
    file = expanded(value).resolve()
    if file.is_file() and file.suffix == ".yaml":
        return None
    reason = "no such file" if not file.is_file() else "the file name of a recipe must end in .yaml"
    allowed = f"a path to a .yaml file, or one of {', '.join(config_groups()[RECIPE])}"
    return Problem(RECIPE, value, reason, allowed)


def _recipe_keys(results: Iterable[_Rewritten]) -> list[str]:
    """The keys of IMPLIED that every recipe sets without choosing their option itself."""
    sets = [set(implying_keys(file)) for result in results for file in result.recipes]
    return [f"{key}=" for key in sorted(set.intersection(*sets))] if sets else []
