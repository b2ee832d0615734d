"""Registers zpipe's configuration with Hydra: conf/, the recipes, and the schema as the base."""

import os
from collections.abc import Iterable, Iterator
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

RECIPE_FOLDERS = "ZPIPE_RECIPE_FOLDERS"
"""Variable with the folders of the user's recipes, for the processes that Hydra's launchers start."""

SCHEMA = "schema.yaml"
ENVIRONMENT = "environment"
"""Name of the layer in conf/config.yaml that holds MLflow's environment variables."""
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
    plugins.register(RecipeSource)
    plugins.register(ZpipeSearchPath)
    store = ConfigStore.instance()
    if SCHEMA not in store.repo:
        store.store(name=SCHEMA, node=OmegaConf.create(defaults()), provider="zpipe")
    store.store(name=ENVIRONMENT, node=OmegaConf.create(_environment()), provider="zpipe")


def _environment() -> dict[str, dict[str, str]]:
    """What the environment says about tracking, below every file and override; never interpolated."""
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
        exported = os.environ.get(RECIPE_FOLDERS, "").split(os.pathsep)
        for folder in filter(None, [*(_recipe_folders.get() or exported), RECIPES]):
            search_path.append(provider="zpipe", path=f"recipe://{folder}")
