"""Where conf/ and recipes/ are: beside the package in a checkout, inside it in a wheel.

The checkout comes first because an editable install may copy the YAML files, which then go stale.
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
    """Each config group with the names of its options, as the files under conf/ have them."""
    groups = {
        folder.name: sorted(option.stem for option in folder.glob("*.yaml"))
        for folder in sorted(CONF.iterdir())
        if folder.is_dir()
    }
    groups["recipe"] = sorted(recipe.stem for recipe in RECIPES.glob("*.yaml"))
    return groups
