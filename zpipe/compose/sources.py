"""Registers zpipe's configuration with Hydra: conf/, the recipes, and the schema as the base."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf

from zpipe.compose.recipes import RECIPE, read_recipe
from zpipe.resources import RECIPES
from zpipe.schema.experiment import defaults
from zpipe.variables import EXPERIMENT_NAME, TRACKING_URI

RECIPE_FOLDERS = "ZPIPE_RECIPE_FOLDERS"
"""Variable with the folders of the user's recipes, for the processes that Hydra's launchers start."""

ENVIRONMENT_KEYS = {"uri": TRACKING_URI, "experiment": EXPERIMENT_NAME}

_recipe_folders: ContextVar[tuple[Path, ...]] = ContextVar("recipe_folders", default=())


def use_recipe_folders(folders: Iterable[Path]) -> None:
    """Adds the folders of the user's recipes to the search path of the compositions from now on."""
    _recipe_folders.set((*_recipe_folders.get(), *sorted(folders)) if folders else ())


@contextmanager
def exported_recipe_folder() -> Iterator[None]:
    """Passes the folders on to processes that are started inside the block."""
    folders = _recipe_folders.get()
    before = os.environ.get(RECIPE_FOLDERS)
    if folders:
        os.environ[RECIPE_FOLDERS] = os.pathsep.join(map(str, folders))
    try:
        yield
    finally:
        if folders:
            os.environ.pop(RECIPE_FOLDERS)
        if before is not None:
            os.environ[RECIPE_FOLDERS] = before


def register() -> None:
    """Registers the recipes and the schema with Hydra. Can be called more than once."""
    plugins = Plugins.instance()
    for plugin in (RecipeSource, BaseSource, ZpipeSearchPath):
        plugins.register(plugin)


def _environment() -> dict[str, dict[str, str]]:
    """What the environment says about tracking, below every file and override; never interpolated."""
    named = {key: os.environ.get(variable) for key, variable in ENVIRONMENT_KEYS.items()}
    given = {key: value.replace("${", "\\${") for key, value in named.items() if value}
    return {"tracking": given} if given else {}


BASE: Mapping[str, Callable[[], dict[str, Any]]] = {"schema": defaults, "environment": _environment}
"""The lowest layers of conf/config.yaml."""


class BaseSource(ConfigSource):
    """The layers of BASE. Hydra's own ConfigStore would copy them three times in each composition."""

    @staticmethod
    def scheme() -> str:
        return "zpipe"

    def available(self) -> bool:
        return True

    def is_group(self, config_path: str) -> bool:
        return config_path.strip("/") == ""

    def is_config(self, config_path: str) -> bool:
        return config_path.removesuffix(".yaml") in BASE

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        return [] if results_filter == ObjectType.GROUP else sorted(BASE)

    def load_config(self, config_path: str) -> ConfigResult:
        config = OmegaConf.create(BASE[config_path.removesuffix(".yaml")]())
        return ConfigResult(self.provider, f"{self.scheme()}://", config, header={"package": None})


class RecipeSource(ConfigSource):
    """A folder of recipes as the config group `recipe` in the global package."""

    @staticmethod
    def scheme() -> str:
        return "recipe"

    def available(self) -> bool:
        return Path(self.path).is_dir()

    def is_group(self, config_path: str) -> bool:
        return config_path.strip("/") in ("", RECIPE)

    def is_config(self, config_path: str) -> bool:
        return self._file(config_path) is not None

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        if config_path.strip("/") == "":
            return [] if results_filter == ObjectType.CONFIG else [RECIPE]
        if results_filter == ObjectType.GROUP:
            return []
        return sorted(file.stem for file in Path(self.path).glob("*.yaml"))

    def load_config(self, config_path: str) -> ConfigResult:
        file = self._file(config_path)
        assert file is not None, config_path
        return ConfigResult(
            provider=self.provider,
            path=f"recipe://{self.path}",
            config=read_recipe(file),
            header={"package": "_global_"},
        )

    def _file(self, config_path: str) -> Path | None:
        group, _, name = config_path.strip("/").partition("/")
        file = Path(self.path) / f"{name.removesuffix('.yaml')}.yaml"
        return file if group == RECIPE and name and file.is_file() else None


class ZpipeSearchPath(SearchPathPlugin):
    """Adds the recipe folders, the user's own first, and the lowest layers to Hydra's search path."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        exported = os.environ.get(RECIPE_FOLDERS, "").split(os.pathsep)
        for folder in filter(None, [*(_recipe_folders.get() or exported), RECIPES]):
            search_path.append(provider="zpipe", path=f"recipe://{folder}")
        search_path.append(provider="zpipe", path=f"{BaseSource.scheme()}://")
