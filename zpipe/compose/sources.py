"""Registers zpipe's configuration with Hydra: conf/, the recipes, and the schema as the base."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf

from zpipe.compose.recipes import RECIPE, read_recipe
from zpipe.resources import RECIPES
from zpipe.schema.experiment import defaults
from zpipe.variables import EXPERIMENT_NAME, TRACKING_URI

RECIPE_FOLDER = "ZPIPE_RECIPE_FOLDER"
"""Environment variable with the folder of a user's recipe, for the processes that Hydra's launchers start."""

ENVIRONMENT = "environment"
"""Name of the layer in conf/config.yaml that holds MLflow's environment variables."""
ENVIRONMENT_KEYS = {"uri": TRACKING_URI, "experiment": EXPERIMENT_NAME}

_recipe_folder: ContextVar[Path | None] = ContextVar("recipe_folder", default=None)


def use_recipe_folder(folder: Path | None) -> None:
    """Adds the folder of a user's recipe to the search path of the compositions from now on."""
    _recipe_folder.set(folder)


@contextmanager
def exported_recipe_folder() -> Iterator[None]:
    """Passes the folder on to processes that are started inside the block."""
    folder = _recipe_folder.get()
    before = os.environ.get(RECIPE_FOLDER)
    if folder is not None:
        os.environ[RECIPE_FOLDER] = str(folder)
    try:
        yield
    finally:
        if folder is not None:
            os.environ.pop(RECIPE_FOLDER)
        if before is not None:
            os.environ[RECIPE_FOLDER] = before


def register() -> None:
    """Registers the recipes and the schema with Hydra. Can be called more than once."""
    plugins = Plugins.instance()
    plugins.register(RecipeSource)
    plugins.register(ZpipeSearchPath)
    store = ConfigStore.instance()
    store.store(name="schema", node=OmegaConf.create(defaults()), provider="zpipe")
    store.store(name=ENVIRONMENT, node=OmegaConf.create(_environment()), provider="zpipe")


def _environment() -> dict[str, dict[str, str]]:
    """What the environment says about tracking, below every file and override. Values are never interpolated."""
    named = {key: os.environ.get(variable) for key, variable in ENVIRONMENT_KEYS.items()}
    given = {key: value.replace("${", "\\${") for key, value in named.items() if value}
    return {"tracking": given} if given else {}


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
    """Adds the recipe folders to Hydra's search path, the user's own folder first."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        own = _recipe_folder.get() or os.environ.get(RECIPE_FOLDER)
        for folder in filter(None, [own, RECIPES]):
            search_path.append(provider="zpipe", path=f"recipe://{folder}")
