"""What a recipe may contain. Anybody may have written it, so it is data: it executes and redirects nothing.

Hydra's settings can name Python objects and files, interpolations can read the environment, and variables of
the loader or of an interpreter decide which code a process runs. Such settings need the command line.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from zpipe.problems import Problem
from zpipe.resources import config_groups
from zpipe.schema.experiment import Experiment, defaults
from zpipe.schema.kubeflow import Kubeflow
from zpipe.schema.model import is_hub_kernel
from zpipe.trees import flatten, leaves
from zpipe.variables import decides_code, would_get_credentials

HYDRA_KEYS = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir", "hydra.mode", "hydra.sweeper.params")
"""Hydra's settings that only name folders and the points of a sweep."""

JOB_KEYS = tuple(f"launcher.slurm.{name}" for name in ("setup", "extra", "mail_type", "mail_user"))
POD_SIZE = ("gpus", "cpu", "memory", "termination_grace_period_seconds")
POD_KEYS = tuple(f"launcher.kubeflow.{name}" for name in Kubeflow.model_fields if name not in POD_SIZE)
"""Settings that decide what runs in the user's cluster, and what it can read and write there."""
_MEETING = ("master_addr", "rdzv_backend", "node_rank")
_HOSTS = ("hostfile", "include", "exclude", "ssh_port", *_MEETING)
HOST_KEYS = tuple(f"launcher.{name}" for name in _HOSTS)
"""Which machines get the environment of the ranks, and which of them the ranks trust."""
FOLDER_KEYS = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir")
_PARAMS = "hydra.sweeper.params."
_DEFAULT = re.compile(r"(?:optional )?(?:override )?/?(?P<group>[\w/]+)")


def recipe_problems(recipe: Mapping[str, Any], file: str) -> Iterator[Problem]:
    """The problems of a recipe's content, interpolations unresolved."""
    yield from _defaults(recipe.get("defaults"), file)
    hydra = recipe.get("hydra", {})
    if not isinstance(hydra, Mapping):
        yield Problem("hydra", hydra, f"in {file}: must be a mapping", ", ".join(HYDRA_KEYS))
        hydra = {}
    values = {key: value for key, value in recipe.items() if key not in ("defaults", "hydra")}
    for key, value in leaves({**values, "hydra": hydra}):
        rule = _swept if key.startswith(_PARAMS) else _leaf
        yield from rule(key.removeprefix(_PARAMS), value, file)


def _defaults(entries: Any, file: str) -> Iterator[Problem]:
    groups = [group for group in config_groups() if group != "recipe"]
    for entry in entries if isinstance(entries, list) else []:
        name = next(iter(entry), "") if isinstance(entry, dict) else entry
        match = _DEFAULT.fullmatch(str(name))
        if name == "_self_" or (isinstance(entry, dict) and match and match["group"] in groups):
            continue
        reason = f"in {file}: a recipe chooses options of zpipe's config groups only"
        yield Problem("defaults", name, reason, f"override /GROUP: OPTION with {', '.join(groups)}")


def _swept(key: str, value: Any, file: str) -> Iterator[Problem]:
    """A key of hydra.sweeper.params must be a recipe's to set, and its values must be plain."""
    block = key.partition(".")[0]
    if block not in (*config_groups(), *Experiment.model_fields) or key.startswith("launcher.env"):
        reason = f"in {file}: a recipe may not sweep this"
        yield Problem(f"{_PARAMS}{key}", value, reason, "groups and keys of zpipe", f"-m {key}=…")
    elif any(mark in str(value) for mark in "{}"):
        reason = f"in {file}: the values of a sweep must be plain"
        yield Problem(f"{_PARAMS}{key}", value, reason, "values between commas", f"-m {key}=…")
    else:
        yield from _leaf(key, value, file)


def _leaf(key: str, value: Any, file: str) -> Iterator[Problem]:
    is_hydra = key.startswith("hydra.")
    if is_hydra and not any(f"{key}.".startswith(f"{allowed}.") for allowed in HYDRA_KEYS):
        reason = f"in {file}: a recipe may not change this setting of Hydra"
        yield Problem(key, value, reason, ", ".join(HYDRA_KEYS), f"{key}=… on the command line")
    elif key in FOLDER_KEYS and _leads_outside(str(value)):
        reason = f"in {file}: a recipe may only name a folder below the current one"
        yield Problem(key, value, reason, "a relative path without ..", f"{key}={value} on the command line")
    elif _resolves(value, names_folder=is_hydra):
        reason = f"in {file}: a recipe may refer to its own keys only, not call a resolver"
        yield Problem(key, value, reason, "${group.key}", f"{key}=… on the command line")
    elif key.startswith("launcher.env.") and decides_code(key.removeprefix("launcher.env.")):
        reason = f"in {file}: this variable decides which code runs"
        yield Problem(key, value, reason, "other variables", f"{key}=… on the command line")
    elif key in JOB_KEYS and value:
        reason = f"in {file}: a recipe may not run commands or send mail"
        yield Problem(key, value, reason, "left out", f"{key}=… on the command line")
    elif key in POD_KEYS and value:
        reason = f"in {file}: a recipe may not choose what a pod runs, reads and writes"
        yield Problem(key, value, reason, "left out", f"{key}=… on the command line")
    elif key in HOST_KEYS and value != flatten(defaults()).get(key):
        reason = f"in {file}: a recipe may not choose the machines to which a run is sent"
        yield Problem(key, value, reason, "left out", f"{key}=… on the command line")
    elif isinstance(value, str) and "${" in value and key in _blocks():
        reason = f"in {file}: a recipe may not take a whole block from elsewhere"
        yield Problem(key, value, reason, "a mapping", f"{key}.KEY=${{…}} for each key")
    elif key == "model.trust_remote_code" and value:
        reason = f"in {file}: a recipe may not run the code of a model"
        yield Problem(key, value, reason, "false", "model.trust_remote_code=true on the command line")
    elif "attn_implementation" in key and is_hub_kernel(str(value)):
        reason = f"in {file}: a recipe may not run code of the hub"
        yield Problem(key, value, reason, "sdpa, flash_attention_2, …", f"{key}={value} on the command line")
    elif key == "resume.trust" and value:
        reason = f"in {file}: only you can trust a checkpoint"
        yield Problem(key, value, reason, "false", "resume.trust=true on the command line")
    elif key == "tracking.uri" and would_get_credentials(str(value)):
        reason = f"in {file}: this server would get the MLflow credentials of your environment"
        yield Problem(key, value, reason, "a store without a server", f"{key}={value} on the command line")


@cache
def _blocks() -> frozenset[str]:
    """Every key that holds other keys."""
    keys = flatten(defaults())
    prefixes = {key[:at] for key in keys for at, letter in enumerate(key) if letter == "."}
    return frozenset(prefixes | {key for key, value in keys.items() if value == {}})


def _leads_outside(path: str) -> bool:
    return path.startswith(("/", "~")) or ".." in path.replace("\\", "/").split("/")


def _resolves(value: Any, names_folder: bool) -> bool:
    """Whether a text calls a resolver, such as ${oc.env:HOME}; folders may have the time in their names."""
    texts = value if isinstance(value, list) else [value]
    for text in map(str, texts):
        plain = re.sub(r"\$\{now:[^${}]*\}", "", text) if names_folder else text
        if "${" in plain and ":" in plain.partition("${")[2]:
            return True
    return False
