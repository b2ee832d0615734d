"""Overrides → composed configuration → Experiment."""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

from zpipe.compose.chains import Chains
from zpipe.compose.layers import NO_EXPERIMENT, Recording, RecordingLoader
from zpipe.compose.names import known_keys
from zpipe.compose.sources import register
from zpipe.problems import Problem, Refusal, nearest
from zpipe.provenance import Provenance
from zpipe.resources import CONF
from zpipe.schema.experiment import Experiment
from zpipe.schema.removed import removed_optimizer


@dataclass(frozen=True)
class Composed:
    """One composed run that Hydra did not start: for the dry run and for checking before the start."""

    experiment: Experiment
    run_dir: Path
    provenance: Provenance


def compose_once(overrides: list[str]) -> Composed:
    """Composes rewritten overrides without running anything. Raises Refusal."""
    with composing() as loader:
        config = hydra_compose("config", overrides, return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        run_dir = Path(config.hydra.run.dir).absolute()
        return Composed(to_experiment(config), run_dir, provenance_of(loader.recording))


@contextmanager
def composing() -> Iterator[RecordingLoader]:
    """Hydra, ready to compose, with a loader that records. What Hydra refuses becomes a Refusal."""
    register()
    initialized = initialize_config_dir(str(CONF), version_base="1.3")
    with hydras_refusals(), redirect_stderr(io.StringIO()), initialized:
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        loader = RecordingLoader(hydra.config_loader.get_search_path())
        hydra.config_loader = loader
        yield loader


@contextmanager
def hydras_refusals() -> Iterator[None]:
    """Turns what Hydra and OmegaConf raise for wrong input into a Refusal."""
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise Refusal([_composition_problem(error)]) from error


def provenance_of(recording: Recording) -> Provenance:
    """Where the values of a composition came from."""
    chains = Chains().with_layers(recording.layers).with_overrides(recording.values)
    return Provenance(options=recording.choices(), experiment=chains.said())


def provenance_under_hydra(overrides: list[str]) -> Provenance:
    """The same for the run that Hydra started in this process, which composed without recording."""
    loader = RecordingLoader(GlobalHydra.instance().config_loader().get_search_path())
    loader.load_configuration("config", overrides, RunMode.RUN)
    return provenance_of(loader.recording)


def to_experiment(config: DictConfig) -> Experiment:
    """The typed experiment of a composed configuration. Raises Refusal with every wrong value."""
    return validated(plain(config))


def blocks_of(config: DictConfig) -> DictConfig:
    """The part of a composed configuration that is the experiment."""
    names = [str(key) for key in config if key not in NO_EXPERIMENT]
    return OmegaConf.masked_copy(config, names)


def plain(config: DictConfig) -> dict[str, Any]:
    """The experiment's part without OmegaConf around it, interpolations resolved."""
    return {str(name): _plain(config[name]) for name in config if name not in NO_EXPERIMENT}


def validated(values: Mapping[str, Any]) -> Experiment:
    """Raises Refusal with every wrong value."""
    try:
        return Experiment.model_validate(values)
    except ValidationError as error:
        raise Refusal(_validation_problems(error, values)) from None


def _plain(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def _composition_problem(error: Exception) -> Problem:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    key = str(getattr(error, "full_key", None) or "configuration")
    return Problem(key, "", " ".join(lines[:3]), fix="python -m zpipe --help lists groups and options")


def _validation_problems(error: ValidationError, values: Mapping[str, Any]) -> Iterator[Problem]:
    by_key: dict[str, list[Any]] = {}
    for detail in error.errors():
        key = ".".join(str(part) for part in detail["loc"] if _is_key_part(part, values, detail["loc"]))
        by_key.setdefault(key, []).append(detail)
    for key, details in by_key.items():
        yield _validation_problem(key, details)


def _is_key_part(part: str | int, values: Mapping[str, Any], loc: tuple[str | int, ...]) -> bool:
    """pydantic ends the location of a union's error with the member's name, which is no key."""
    position = loc.index(part)
    block: Any = values
    for name in loc[:position]:
        block = block.get(name) if isinstance(block, Mapping) else None
    return isinstance(block, Mapping) and part in block


def _validation_problem(key: str, details: list[Any]) -> Problem:
    value = details[0]["input"]
    if details[0]["type"] == "extra_forbidden":
        near = nearest(key, known_keys())
        fix = " or ".join(f"{name}={value}" for name in near)
        return Problem(key, value, "no such key (it comes from a YAML file)", fix=fix)
    gone = removed_optimizer(value) if key == "optimizer.type" and isinstance(value, str) else None
    if gone is not None:
        return Problem(key, value, gone.reason, fix=gone.instead)
    reasons = dict.fromkeys(detail["msg"].removeprefix("Value error, ") for detail in details)
    allowed = "; ".join(reasons).replace("Input should be ", "")
    return Problem(key, value, "not a valid value", allowed, f"{key}={_example(details)}")


def _example(details: list[Any]) -> str:
    """A value of the right kind, taken from what pydantic expects."""
    for detail in details:
        context = detail.get("ctx", {})
        if "expected" in context:
            return str(context["expected"]).split(",")[0].split(" or ")[0].strip("'")
        for bound in ("ge", "le", "gt", "lt"):
            if bound in context:
                offset = {"gt": 1, "lt": -1}.get(bound, 0)
                return str(context[bound] + offset)
    return "true" if "bool" in details[0]["type"] else "1"
