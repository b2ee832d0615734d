"""The names of run folders: everybody can read them, so they must not contain a secret."""

from collections.abc import Iterator
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from zpipe.problems import Problem
from zpipe.redact import HIDDEN, redact, redact_override

_OF_OVERRIDES = ("override_dirname", "hydra.overrides", "hydra:overrides")


def folder_problems(key: str, folder: str) -> Iterator[Problem]:
    """A problem if the folder of this key, as resolved, contains a secret."""
    if redact(folder) != folder:
        reason = "the name of the folder would contain a secret"
        yield Problem(key, HIDDEN, reason, "a name without secrets", f"leave {key} out")


def sweep_folder_problems(hydra: Any, overrides: list[str]) -> Iterator[Problem]:
    """The same for the folders of a sweep's points, whose names may consist of overrides."""
    yield from folder_problems("hydra.sweep.dir", str(hydra.sweep.dir))
    template = str(OmegaConf.to_container(hydra.sweep, resolve=False)["subdir"])  # type: ignore[call-overload, index]
    has_secret = any(redact_override(text) != text for text in overrides)
    if has_secret and any(name in template for name in _OF_OVERRIDES):
        yield from folder_problems("hydra.sweep.subdir", "password=secret")
        return
    try:
        resolved = str(hydra.sweep.subdir)
    except OmegaConfBaseException:  # the number of the point is not known yet
        return
    yield from folder_problems("hydra.sweep.subdir", resolved)
