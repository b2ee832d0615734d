"""The function that Hydra calls for each run, in this process or in one that its launcher started."""

import math
import sys
from pathlib import Path

from hydra import main as hydra_main
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from zpipe.compose.compose import provenance_under_hydra, to_experiment
from zpipe.compose.overrides import as_typed
from zpipe.compose.redact_hydra import hide_secrets
from zpipe.compose.sources import register
from zpipe.problems import Refusal
from zpipe.resources import CONF
from zpipe.run.runner import run_experiment
from zpipe.runfolder.outcome import Outcome
from zpipe.sweep.definition import Definition
from zpipe.sweep.point import run_point
from zpipe.terminal.summary import print_problems

outcomes: list[Outcome] = []
"""Of the runs in this process, oldest first."""


def hand_over(flags: list[str], overrides: list[str]) -> None:
    """Lets Hydra do what this command line says: it calls `_job` once, or once for each point of a sweep."""
    register()
    sys.argv = ["zpipe", *flags, *overrides]
    hydra_main(config_path=str(CONF), config_name="config", version_base="1.3")(_job)()


def _job(config: DictConfig) -> float:
    """One run; returns what a sweeper optimises. Never raises for a run that failed."""
    hydra = HydraConfig.get()
    run_dir = Path(hydra.runtime.output_dir)
    command = [as_typed(text) for text in hydra.overrides.task]
    hide_secrets(run_dir / ".hydra")
    if hydra.mode != RunMode.MULTIRUN:
        return _run(config, run_dir, command).objective
    sweep_dir = Path(hydra.sweep.dir).absolute()
    hide_secrets(sweep_dir)

    def run(folder: Path, definition: Definition) -> Outcome:
        named = _named(config, definition.label(command))
        return _run(named, folder, command, definition.mlflow_run_id)

    return run_point(sweep_dir, run_dir, command, _worst(hydra.sweeper), run)


def _run(config: DictConfig, run_dir: Path, command: list[str], parent: str | None = None) -> Outcome:
    try:
        experiment = to_experiment(config)
    except Refusal as refusal:
        print_problems(refusal.problems)
        outcome = Outcome(ending="refused", reason=str(refusal.problems[0]), run_dir=str(run_dir))
    else:
        hydra = HydraConfig.get()
        provenance = provenance_under_hydra([*hydra.overrides.hydra, *hydra.overrides.task])
        outcome = run_experiment(experiment, run_dir, command, parent, provenance)
    outcomes.append(outcome)
    return outcome


def _named(config: DictConfig, label: str) -> DictConfig:
    """The configuration of a point whose run is called by what it differs in, unless the user named it."""
    if config.tracking.run_name is not None or not label:
        return config
    return OmegaConf.merge(config, {"tracking": {"run_name": label}})  # type: ignore[return-value]


def _worst(sweeper: DictConfig) -> float:
    """What a sweeper is told of a point without figures: NaN would end an optimisation."""
    return -math.inf if "maximize" in str(sweeper.get("direction")).lower() else math.inf
