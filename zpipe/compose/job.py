"""The function that Hydra calls for each run, in this process or in one that its launcher started."""

from pathlib import Path

from hydra import main as hydra_main
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from zpipe.compose.compose import provenance_under_hydra, to_experiment
from zpipe.compose.overrides import as_typed
from zpipe.compose.sources import register
from zpipe.outcome import Outcome
from zpipe.problems import Refusal
from zpipe.report import print_problems
from zpipe.resources import CONF
from zpipe.runner import run_experiment
from zpipe.sweep import parent_run_id

outcomes: list[Outcome] = []
"""Of the runs in this process, oldest first."""


def run_under_hydra() -> None:
    """Hands sys.argv to Hydra, which composes and calls `_job` once, or once for each point of a sweep."""
    register()
    hydra_main(config_path=str(CONF), config_name="config", version_base="1.3")(_job)()


def _job(config: DictConfig) -> float:
    """One run; returns what a sweeper minimises. Never raises for a run that failed."""
    hydra = HydraConfig.get()
    run_dir = Path(hydra.runtime.output_dir)
    in_sweep = hydra.mode == RunMode.MULTIRUN
    parent = parent_run_id(Path(hydra.sweep.dir)) if in_sweep else None
    try:
        experiment = to_experiment(config)
    except Refusal as refusal:
        print_problems(refusal.problems)
        outcome = Outcome(ending="refused", reason=str(refusal.problems[0]), run_dir=str(run_dir))
    else:
        command = [as_typed(text) for text in hydra.overrides.task]
        provenance = provenance_under_hydra([*hydra.overrides.hydra, *hydra.overrides.task])
        outcome = run_experiment(experiment, run_dir, command, parent, provenance)
    outcomes.append(outcome)
    return outcome.objective
