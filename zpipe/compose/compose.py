"""Overrides → composed configuration → Experiment."""

import io
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from zpipe.checks.launcher import unknown_address
from zpipe.compose.folders import folder_problems
from zpipe.compose.option_folders import config_dir
from zpipe.compose.overrides import given_overrides
from zpipe.compose.quoting import quoted_forms
from zpipe.compose.recording_loader import NO_EXPERIMENT, Recording, RecordingLoader
from zpipe.compose.sources import register
from zpipe.compose.translate import option_problem
from zpipe.compose.validation import validated
from zpipe.compose.value_history import Chains
from zpipe.paths import absolute
from zpipe.plans.provenance import Provenance
from zpipe.problems import Problem, Refusal, either, nearest, refuse_if_any
from zpipe.resources import CONF, config_groups
from zpipe.schema.experiment import Experiment

_SEVERAL_VALUES = re.compile(r"Ambiguous value for argument '(.*)'\n")
_NOT_THERE = re.compile(r"Could not (?:override|delete from config\.) '([^']+)'")


@dataclass(frozen=True)
class Composed:
    """One composed run: the experiment, its run folder, and the source of each value."""

    experiment: Experiment
    run_dir: Path
    provenance: Provenance


@dataclass(frozen=True)
class ComposedRun(Composed):
    """One composed run with everything that Hydra needs to run it as a job."""

    config: DictConfig
    loader: RecordingLoader

    @property
    def is_multirun(self) -> bool:
        """Whether the configuration itself asks for a multirun (hydra.mode)."""
        return bool(self.config.hydra.mode == RunMode.MULTIRUN)


def compose_once(overrides: list[str]) -> ComposedRun:
    """Composes rewritten overrides without running anything. Raises Refusal."""
    with composing() as loader:
        config = hydra_compose("config", overrides, return_hydra_config=True)
        require_working_folder(config)
        HydraConfig.instance().set_config(config)
        refuse_if_any(folder_problems("hydra.run.dir", str(config.hydra.run.dir)))
        run_dir = absolute(Path(config.hydra.run.dir))
        experiment = to_experiment(config)
        refuse_if_any(_folder_of_a_job(experiment, run_dir))
        composed = ComposedRun(experiment, run_dir, provenance_of(loader.recording), config, loader)
        if experiment.hardware.name is None:
            refuse_if_any(meeting_problems(composed))
        return composed


def meeting_problems(composed: ComposedRun) -> Iterator[Problem]:
    """Several nodes meet in the run folder, and at an address.

    The default name of the folder has the time at which each was started. The pods of launcher=kubeflow are
    told both by their job. A plan for a machine that is described needs neither.
    """
    experiment, config = composed.experiment, composed.config
    if experiment.launcher.type == "kubeflow":
        return
    if experiment.hardware.name is not None:
        yield from unknown_address(experiment)
    named = any(text.startswith("hydra.run.dir=") for text in given_overrides(config.hydra)[0])
    if experiment.launcher.nodes > 1 and not named:
        reason = "several nodes meet in the run folder, and its default name differs from node to node"
        allowed = "a folder on a file system that all nodes share"
        fix = "hydra.run.dir=/shared/runs/NAME, the same on every node"
        yield Problem("hydra.run.dir", str(config.hydra.run.dir), reason, allowed, fix)


def _folder_of_a_job(experiment: Experiment, run_dir: Path) -> Iterator[Problem]:
    """slurmd removes backslashes from the name of the output file, finds no such folder and fails the job."""
    if experiment.launcher.type == "slurm" and "\\" in str(run_dir):
        reason = "Slurm cannot write the output of a job into a folder with a backslash in its name"
        yield Problem("hydra.run.dir", str(run_dir), reason, "a name without a backslash")


def require_working_folder(config: DictConfig) -> None:
    """Refuses hydra.job.chdir: the plan would read relative paths in one folder, and the run in another."""
    if config.hydra.job.chdir:
        reason = (
            "relative paths of a run start from the folder of the command; its outputs go to hydra.run.dir"
        )
        raise Refusal([Problem("hydra.job.chdir", True, reason, "false", "hydra.job.chdir=false")])


@contextmanager
def composing() -> Iterator[RecordingLoader]:
    """Hydra, ready to compose, with a recording loader. What Hydra refuses becomes a Refusal."""
    register()
    initialized = initialize_config_dir(str(CONF), job_name="zpipe", version_base="1.3")
    with hydras_refusals(), redirect_stderr(io.StringIO()), initialized:
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        search_path = hydra.config_loader.get_search_path()
        if (folder := config_dir()) is not None:
            # Hydra itself puts it in front of everything as well (hydra/_internal/utils.py, add_conf_dir).
            search_path.prepend(provider="command-line", path=f"file://{folder}")
        loader = RecordingLoader(search_path)
        hydra.config_loader = loader
        yield loader


@contextmanager
def hydras_refusals() -> Iterator[None]:
    """Turns what Hydra, OmegaConf and YAML raise for wrong input into a Refusal."""
    try:
        yield
    # Hydra raises AttributeError for a search path below a module that is not a package.
    except (HydraException, OmegaConfBaseException, YAMLError, ValueError, AttributeError) as error:
        raise Refusal([_composition_problem(error)]) from error


def provenance_of(recording: Recording) -> Provenance:
    """The sources of the values of a composition."""
    chains = Chains().with_layers(recording.layers).with_overrides(recording.values)
    return Provenance(options=recording.choices(), experiment=chains.overridden())


def provenance_under_hydra(overrides: list[str]) -> Provenance:
    """The same for a point of a sweep, which Hydra composed without recording."""
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


def _plain(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def _missing_option(group: str, option: str, options: Sequence[str]) -> Problem:
    """Options of zpipe's groups on the command line were checked before: only a file can name this one."""
    if group in config_groups():
        return option_problem(group, option, "no such option (it comes from a YAML file)")
    fix = " or ".join(f"{group}={near}" for near in nearest(option, options))
    return Problem(group, option, "no such option, or its plugin is not installed", ", ".join(options), fix)


def _not_there(name: str) -> Problem:
    """Hydra's own advice, to add the name with +, would set what nothing reads."""
    if name.startswith(("hydra.", "hydra/")):
        plugin = "/".join(re.split(r"[./]", name)[:2])
        reason = f"the chosen {plugin} does not have it"
        return Problem(name, "", reason, fix="zpipe --cfg hydra shows Hydra's keys")
    near = " or ".join(f"~{group}" for group in nearest(name, config_groups()))
    return Problem(name, "", "cannot be left out: it is not there", ", ".join(config_groups()), near)


def _composition_problem(error: Exception) -> Problem:
    text = str(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options is not None:
        group, _, option = error.missing_cfg_file.rpartition("/")
        return _missing_option(group, option, error.options)
    several = _SEVERAL_VALUES.search(text)
    if several is not None:
        override = several.group(1).replace("'", "")
        key, _, value = override.partition("=")
        one = quoted_forms(override)[:1]
        fix = either(f"-m {override}", *map(shlex.quote, one))
        return Problem(key, value, "several values are a sweep", "one value, or -m", fix)
    not_there = _NOT_THERE.search(text)
    if not_there is not None:
        return _not_there(not_there.group(1))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    key = str(getattr(error, "full_key", None) or "configuration")
    return Problem(key, "", " ".join(lines[:3]), fix="python -m zpipe --help lists groups and options")
