"""Records what Hydra merges, in order: the files of the defaults list, then the value overrides.

The loader composes exactly like Hydra's (hydra/_internal/config_loader_impl.py) and keeps each file and
override, so that the source of every value is known.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository, IConfigRepository
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.default_element import GroupDefault, InputDefault, ResultDefault
from hydra.core.override_parser.types import Override
from hydra.plugins.config_source import ConfigResult
from omegaconf import OmegaConf

from zpipe.compose.overrides import as_typed
from zpipe.plans.provenance import DEFAULT, INDEX, Choice
from zpipe.resources import CONF, RECIPES

NO_EXPERIMENT = ("hydra", "recipe", "defaults")
"""Top-level names that do not belong to the Experiment."""


@dataclass(frozen=True)
class Layer:
    """One file, nested according to its package. Values as written, with unresolved interpolations."""

    source: str
    config_path: str
    values: Mapping[str, Any]
    chooses: Mapping[str, str]
    """By group, the options that the defaults list of this file names."""


@dataclass
class Recording:
    """One composition."""

    layers: list[Layer] = field(default_factory=list)
    groups: list[Override] = field(default_factory=list)
    """Overrides that choose options, in order."""
    values: list[Override] = field(default_factory=list)
    """Overrides that set values of the experiment, in order."""

    def choices(self) -> dict[str, Choice]:
        """The chosen option of each config group, for groups whose option has a file."""
        choices = {}
        for layer in self.layers:
            group, _, option = layer.config_path.rpartition("/")
            if group:
                chosen_by = self._chosen_by(group, option)
                choices[group] = Choice(option=option, file=layer.source, chosen_by=chosen_by)
        return choices

    def _chosen_by(self, group: str, option: str) -> str:
        """Overrides take precedence over a recipe, and a recipe over conf/config.yaml, as in Hydra."""
        typed = [as_typed(each.input_line or "") for each in self.groups if each.key_or_group == group]
        naming = [layer.source for layer in self.layers if layer.chooses.get(group) == option]
        return (typed or naming or [INDEX])[-1]


class RecordingLoader(ConfigLoaderImpl):
    """Hydra's loader. Keeps a recording of its last composition."""

    def __init__(self, search_path: ConfigSearchPath) -> None:
        super().__init__(search_path)
        self.recording = Recording()

    def _parse_overrides_and_create_caching_repo(
        self, config_name: str | None, overrides: list[str]
    ) -> tuple[list[Override], CachingConfigRepository]:
        parsed, repo = super()._parse_overrides_and_create_caching_repo(config_name, overrides)
        self.recording = Recording()
        for override in parsed:
            if not override.is_hydra_override():
                sets_value = sets_a_value(override, repo.group_exists(override.key_or_group))
                (self.recording.values if sets_value else self.recording.groups).append(override)
        return parsed, repo

    def _load_single_config(self, default: ResultDefault, repo: IConfigRepository) -> ConfigResult:
        result = super()._load_single_config(default, repo)
        path = default.config_path or ""
        if path.partition("/")[0] != "hydra":
            self.recording.layers.append(_layer(path, result))
        return result


def sets_a_value(override: Override, names_a_group: bool) -> bool:
    """Whether it sets a value rather than an option (hydra/_internal/defaults_list.py, Overrides)."""
    return isinstance(override.value(), dict) or not names_a_group


def _layer(path: str, result: ConfigResult) -> Layer:
    values = OmegaConf.to_container(result.config, resolve=False)
    assert isinstance(values, dict)
    return Layer(
        source=_source(path, result),
        config_path=path,
        values={str(name): block for name, block in values.items() if name not in NO_EXPERIMENT},
        chooses=dict(_named(result.defaults_list or [])),
    )


def _source(path: str, result: ConfigResult) -> str:
    """conf/GROUP/OPTION.yaml or recipes/NAME.yaml for zpipe's own files, the full path for a user's file."""
    if path == "schema":
        return DEFAULT
    if path == "environment":
        return "environment variable MLFLOW_TRACKING_URI or MLFLOW_EXPERIMENT_NAME"
    scheme, _, folder = (result.path or "").partition("://")
    if scheme == "recipe":
        file = Path(folder) / f"{path.partition('/')[2]}.yaml"
        return f"{RECIPES.name}/{file.name}" if file.parent == RECIPES else str(file)
    return f"{CONF.name}/{path}.yaml" if folder == str(CONF) else f"{folder}/{path}.yaml"


def _named(defaults: Sequence[InputDefault]) -> list[tuple[str, str]]:
    return [
        (item.group.lstrip("/"), item.value)
        for item in defaults
        if isinstance(item, GroupDefault) and item.group and isinstance(item.value, str)
    ]
