"""Reads a recipe file into the form that Hydra accepts."""

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from zpipe.compose.recipe_rules import recipe_problems
from zpipe.hydra_text import quoted
from zpipe.problems import Problem, Refusal, refuse_if_any
from zpipe.resources import config_groups

RECIPE = "recipe"
MOST_CHARACTERS = 1_000_000
MOST_ALIASES = 30
"""Each can multiply the content; nested ones grow it without limit."""
MOST_LEVELS = 50
IMPLIED = {"model.name_or_path": ("model", "pretrained"), "data.path": ("data", "files")}
"""Keys that make sense with only one option of their group, which they choose."""


def read_recipe(file: Path) -> DictConfig:
    """The recipe, with numbers in its defaults list as text. Raises Refusal."""
    config = _read(file)
    if not isinstance(config, DictConfig):
        raise Refusal([Problem(RECIPE, str(file), "a recipe must be a mapping of groups and keys")])
    refuse_if_any(_problems(config, file))
    content = OmegaConf.to_container(config, resolve=False)
    assert isinstance(content, dict)
    refuse_if_any(recipe_problems({str(key): value for key, value in content.items()}, str(file)))
    _quote_swept_options(config)
    if config.get("defaults") is not None:
        config.defaults = [
            _with_text_options(entry) for entry in OmegaConf.to_container(config.defaults) or ()
        ]
    return config


def implying_keys(file: Path) -> list[str]:
    """The keys of IMPLIED that a recipe sets without choosing their option. Raises Refusal."""
    recipe = read_recipe(file)
    chosen = " ".join(str(entry) for entry in recipe.get("defaults") or [])
    return [
        key
        for key, (group, _) in IMPLIED.items()
        if OmegaConf.select(recipe, key) is not None and f"/{group}'" not in chosen
    ]


def _read(file: Path) -> DictConfig | ListConfig | None:
    try:
        _check_size(_text(file), file)
        return OmegaConf.load(file)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
        raise Refusal([Problem(f"{file}{place}", "", f"invalid YAML: {error.problem}")]) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Refusal([Problem(RECIPE, str(file), f"invalid YAML: {error}")]) from None
    except OSError as error:
        raise Refusal([Problem(RECIPE, str(file), f"cannot be read: {error.strerror}")]) from None
    except (ValueError, RecursionError, OmegaConfBaseException) as error:
        reason = f"cannot be read: {str(error).splitlines()[0]}"
        raise Refusal([Problem(RECIPE, str(file), reason, "texts, numbers, lists and mappings")]) from None


def _check_size(text: str, file: Path) -> None:
    """Raises Refusal for a content that would grow or nest without limit."""
    aliases = depth = 0
    for event in yaml.parse(text):
        aliases += isinstance(event, yaml.AliasEvent)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if aliases > MOST_ALIASES or depth > MOST_LEVELS:
            reason = f"more than {MOST_ALIASES} aliases, or {MOST_LEVELS} levels"
            raise Refusal([Problem(RECIPE, str(file), reason)])


def _text(file: Path) -> str:
    """Raises OSError for what is not a regular file, or larger than a recipe can be."""
    if not file.is_file():
        raise OSError(errno.EINVAL, "not a regular file")
    with file.open(encoding="utf-8") as opened:
        text = opened.read(MOST_CHARACTERS + 1)
    if len(text) > MOST_CHARACTERS:
        raise OSError(errno.EFBIG, f"larger than {MOST_CHARACTERS:,} characters")
    return text


def _quote_swept_options(config: DictConfig) -> None:
    """Hydra refuses numbers as options, as in `hydra.sweeper.params: {stage: "2,3"}`."""
    params = OmegaConf.select(config, "hydra.sweeper.params") or {}
    for group in [key for key in params if key in config_groups()]:
        if "(" not in str(params[group]):
            options = (option.strip() for option in str(params[group]).split(","))
            params[group] = ",".join(quoted(option) for option in options)


def _problems(config: DictConfig, file: Path) -> Iterator[Problem]:
    if "_target_" in OmegaConf.to_yaml(config):
        reason = "a recipe must not name Python objects (_target_)"
        fix = "choose among Hydra's plugins on the command line, e.g. hydra/launcher=joblib"
        yield Problem(RECIPE, str(file), reason, fix=fix)
    defaults = config.get("defaults") or []
    if not isinstance(defaults, list | ListConfig) or any(
        isinstance(entry, int | float) for entry in defaults
    ):
        yield Problem(
            "defaults", str(defaults), f"in {file}: must be a list of lines like {_line('stage', 3)}"
        )
    for group, value in config.items():
        if group in config_groups() and not isinstance(value, DictConfig):
            reason = f"in {file}: a recipe chooses options in its defaults list: {_line(str(group), value)}"
            yield Problem(str(group), value, reason, ", ".join(config_groups()[str(group)]))


def _line(group: str, option: Any) -> str:
    return f'"- override /{group}: {option}"'


def _with_text_options(entry: Any) -> Any:
    """Hydra refuses numbers as options, as in `override /stage: 3`."""
    if not isinstance(entry, dict):
        return entry
    return {key: str(value) if isinstance(value, int | float) else value for key, value in entry.items()}
