"""Locates conf/ and recipes/: next to the package in a checkout, inside it in a wheel.

The checkout takes precedence, because an editable install may have stale copies of the YAML files.
"""

from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def _root() -> Path:
    checkout = _PACKAGE.parent
    if (checkout / "conf" / "config.yaml").is_file():
        return checkout
    return _PACKAGE / "_resources"


CONF = _root() / "conf"
RECIPES = _root() / "recipes"


@cache
def config_groups() -> dict[str, list[str]]:
    """The option names of each config group, from the files in conf/ and recipes/."""
    groups = {
        folder.name: sorted(option.stem for option in folder.glob("*.yaml"))
        for folder in sorted(CONF.iterdir())
        if folder.is_dir()
    }
    groups["recipe"] = sorted(recipe.stem for recipe in RECIPES.glob("*.yaml"))
    return groups
