"""Folders with options of the user's own, from --config-dir and hydra.searchpath on the command line."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from zpipe.problems import Problem, Refusal
from zpipe.resources import config_groups

_SEARCH_PATH = "hydra.searchpath="
_searched: ContextVar[tuple[Path, ...]] = ContextVar("searched_folders", default=())
_config_dir: ContextVar[Path | None] = ContextVar("config_dir", default=None)


def use_config_dir(given: str | None) -> None:
    """Uses the folder of --config-dir from now on, or none. Raises Refusal if it is not a folder."""
    folder = Path(given).absolute() if given is not None else None
    if folder is not None and not folder.is_dir():
        allowed = "a folder with GROUP/OPTION.yaml"
        raise Refusal([Problem("--config-dir", given, "no such folder", allowed)])
    _config_dir.set(folder)


@contextmanager
def without_config_dir() -> Iterator[None]:
    """Knows zpipe's own options alone inside the block."""
    token = _config_dir.set(None)
    try:
        yield
    finally:
        _config_dir.reset(token)


def use_search_path(overrides: Iterable[str]) -> None:
    """Knows the options in the folders of hydra.searchpath=[…] from now on."""
    given = [path for text in overrides if text.startswith(_SEARCH_PATH) for path in _local_paths(text)]
    _searched.set(tuple(given))


def config_dir() -> Path | None:
    """The folder of --config-dir."""
    return _config_dir.get()


def repeatable(typed: Iterable[str]) -> list[str]:
    """A command line with the folder of --config-dir, as it can be given again."""
    folder = config_dir()
    return [*typed, *([] if folder is None else [f"--config-dir={folder}"])]


def own_options(group: str) -> list[str]:
    """The options that the user's own folders add to a group."""
    folders = [*filter(None, [_config_dir.get()]), *_searched.get()]
    found = (file.stem for folder in folders for file in (folder / group).glob("*.yaml"))
    return sorted(set(found))


def known_options(group: str) -> list[str]:
    """The options of a group: zpipe's own and the user's."""
    return [*config_groups()[group], *own_options(group)]


def _local_paths(override: str) -> list[Path]:
    try:
        value = OverridesParser.create().parse_override(override).value()
    except HydraException:
        return []
    paths = value if isinstance(value, list) else [value]
    texts = [str(getattr(path, "text", path)) for path in paths]
    return [Path(text.removeprefix("file://")).absolute() for text in texts if not text.startswith("pkg://")]
