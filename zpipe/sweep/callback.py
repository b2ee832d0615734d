"""What Hydra calls around a multirun: the sweep is written down and gets its run in MLflow."""

import sys
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from zpipe.sweep.definition import Definition, read_definition, write_definition
from zpipe.sweep.session import Session, current


class SweepCallback(Callback):
    """In a single run it does nothing."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        folder = Path(config.hydra.sweep.dir).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        session = current()
        definition = read_definition(folder) or _define(config, session.arguments)
        session.open(folder, definition, config.tracking.uri)
        write_definition(folder, session.definition)


def _define(config: DictConfig, arguments: list[str]) -> Definition:
    tracking = config.tracking
    return Definition(
        arguments=arguments or sys.argv[1:],
        cwd=str(Path.cwd()),
        swept=_swept(config),
        uri=Session.shown_uri(tracking.uri) if tracking.enabled else None,
        experiment=tracking.experiment,
    )


def _swept(config: DictConfig) -> list[str]:
    """Keys that the command line or the sweeper's own configuration gives several values."""
    parsed = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
    own = (config.hydra.sweeper.get(name) or {} for name in ("params", "search_space"))
    names = [override.key_or_group for override in parsed if override.is_sweep_override()]
    return list(dict.fromkeys([*names, *(str(key) for block in own for key in block)]))
