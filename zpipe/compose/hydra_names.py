"""Hydra's own keys and groups, and suggestions for unknown ones: hydra.run.dir, hydra/launcher."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any

from hydra.conf import HydraConf

from zpipe.problems import Problem, nearest

GROUPS = (
    "hydra/launcher",
    "hydra/sweeper",
    "hydra/job_logging",
    "hydra/hydra_logging",
    "hydra/env",
    "hydra/help",
    "hydra/hydra_help",
    "hydra/output",
)
"""A plugin may add groups below these, such as hydra/sweeper/sampler."""

_OF_PLUGINS = ("hydra.launcher", "hydra.sweeper")


def check_hydra_name(name: str, value: str) -> Problem | None:
    """A problem if Hydra has no such key or group."""
    known, reason = (GROUPS, "no such group of Hydra") if "/" in name else (_keys(), "no such key of Hydra")
    if any(name == each or name.startswith((f"{each}.", f"{each}/")) for each in (*known, *_OF_PLUGINS)):
        return None
    siblings = [each for each in known if each.rpartition(".")[0] == name.rpartition(".")[0]] or _blocks()
    near = nearest(name, known)
    allowed = ", ".join(siblings if "/" not in name else known)
    return Problem(name, value, reason, allowed, " or ".join(f"{each}={value}" for each in near))


@cache
def _keys() -> tuple[str, ...]:
    return tuple(_keys_of(HydraConf, "hydra"))


def _blocks() -> list[str]:
    return [f"hydra.{field.name}" for field in fields(HydraConf)]


def _keys_of(conf: Any, prefix: str) -> Iterator[str]:
    """The dotted keys of a structured configuration of Hydra; a free mapping is one key."""
    for field in fields(conf):
        key = f"{prefix}.{field.name}"
        if isinstance(field.type, type) and is_dataclass(field.type):
            yield from _keys_of(field.type, key)
        else:
            yield key
