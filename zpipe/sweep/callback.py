"""The callback that Hydra runs before a sweep: it writes sweep.json and opens the sweep's run in MLflow."""

import sys
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from zpipe.launchers import makes_arrays
from zpipe.sweep.definition import Definition, read_definition, write_definition
from zpipe.sweep.session import Session, current

ARRAY_LAUNCHER = "hydra_plugins.zpipe.ArrayLauncher"
"""Hydra's launcher whose points are tasks of one job (zpipe/compose/array_launcher.py)."""


class SweepCallback(Callback):
    """Does nothing in a single run."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        folder = Path(config.hydra.sweep.dir).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        session = current()
        definition = read_definition(folder) or _define(config, session.arguments)
        session.open(folder, definition, config.tracking.uri)
        write_definition(folder, session.definition)
        if makes_arrays(config.launcher.type):
            with read_write(config), open_dict(config):
                config.hydra.launcher = {"_target_": ARRAY_LAUNCHER}


def _define(config: DictConfig, arguments: list[str]) -> Definition:
    tracking = config.tracking
    return Definition(
        arguments=arguments or sys.argv[1:],
        cwd=str(Path.cwd()),
        swept=_swept_keys(config),
        uri=Session.shown_uri(tracking.uri) if tracking.enabled else None,
        experiment=tracking.experiment,
    )


def _swept_keys(config: DictConfig) -> list[str]:
    """Keys with several values, from the command line or from the sweeper's own configuration."""
    # Reading an override from the configuration itself would resolve its interpolations.
    typed = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)
    parsed = OverridesParser.create().parse_overrides([str(text) for text in typed or ()])
    from_command = [override.key_or_group for override in parsed if override.is_sweep_override()]
    from_sweeper = (config.hydra.sweeper.get(name) or {} for name in ("params", "search_space"))
    return list(dict.fromkeys([*from_command, *(str(key) for block in from_sweeper for key in block)]))
