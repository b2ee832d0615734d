"""The versions of the packages that take part in a run, read without importing them."""

from collections.abc import Mapping
from functools import cache
from importlib import metadata

PACKAGES = (
    "zpipe",
    "torch",
    "transformers",
    "accelerate",
    "deepspeed",
    "datasets",
    "mlflow",
    "hydra-core",
    "omegaconf",
)


@cache
def installed_versions() -> Mapping[str, str]:
    """By distribution name. Cached, because reading package metadata takes longer than the rest of a plan."""
    return {package: version_of(package) for package in PACKAGES}


def version_of(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
