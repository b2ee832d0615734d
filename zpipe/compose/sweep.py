"""Lists and composes the points of a sweep quickly.

Hydra's basic sweeper lists the points in order. Hydra composes once per combination of options. Values are
then applied by Hydra's own function, to a copy of the blocks that they change. A point with interpolations is
composed separately, because interpolations can refer to other blocks.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict

from zpipe.compose.compose import (
    Composed,
    blocks_of,
    composing,
    hydras_refusals,
    plain,
    provenance_of,
    require_working_folder,
    to_experiment,
)
from zpipe.compose.folders import sweep_folder_problems
from zpipe.compose.overrides import as_typed
from zpipe.compose.recording_loader import Recording, RecordingLoader, sets_a_value
from zpipe.compose.validation import validated
from zpipe.compose.value_history import Chains
from zpipe.launchers import makes_arrays
from zpipe.plans.provenance import Provenance
from zpipe.problems import Problem, Refusal, either, refuse_if_any
from zpipe.resources import config_groups
from zpipe.schema.experiment import Experiment

BASIC = f"{BasicSweeper.__module__}.{BasicSweeper.__qualname__}"
LOCAL = f"{BasicLauncher.__module__}.{BasicLauncher.__qualname__}"


class Unlistable(Refusal):
    """The points cannot be listed in advance: the sweeper chooses them."""


@dataclass(frozen=True)
class Point:
    """One run of a sweep."""

    number: int
    folder: Path
    """The run folder of this point in a multirun."""
    overrides: tuple[str, ...]
    """In Hydra's form and order."""

    @property
    def command(self) -> list[str]:
        """The overrides as a user would type them, without Hydra's own settings, as a run records them."""
        parsed = ((text, _parsed(text)) for text in self.overrides)
        return [as_typed(text) for text, override in parsed if not override.is_hydra_override()]


class Composer:
    """Composes runs that share options, each combination of options only once.

    `bases` can be passed from one composer to the next while no configuration file changes.
    """

    def __init__(self, loader: RecordingLoader, bases: "dict[tuple[str, ...], Base] | None" = None) -> None:
        self._loader = loader
        self._bases = {} if bases is None else bases

    def compose(self, point: Point) -> Composed:
        """The same result as composing the point on its own. Raises Refusal."""
        with hydras_refusals():
            experiment, provenance = self._compose(point)
        return Composed(experiment, point.folder, provenance)

    def _compose(self, point: Point) -> tuple[Experiment, Provenance]:
        values: list[Override] = []
        choices: list[str] = []
        for text in point.overrides:
            override = _parsed(text)
            if _sets_experiment(override):
                values.append(override)
            else:
                choices.append(text)
        base = self._base(tuple(choices))
        if base.interpolates or any("${" in str(override.value()) for override in values):
            return self._compose_separately(point)
        return validated(base.blocks_with(values)), base.provenance_with(values)

    def _base(self, overrides: tuple[str, ...]) -> "Base":
        if overrides not in self._bases:
            config = hydra_compose("config", list(overrides), return_hydra_config=True)
            self._bases[overrides] = Base(blocks_of(config), self._loader.recording)
        return self._bases[overrides]

    def _compose_separately(self, point: Point) -> tuple[Experiment, Provenance]:
        config = hydra_compose("config", list(point.overrides), return_hydra_config=True)
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = point.number
        HydraConfig.instance().set_config(config)
        return to_experiment(config), provenance_of(self._loader.recording)


class Sweep(Composer):
    """A sweep to be composed, not run."""

    def __init__(self, loader: RecordingLoader, overrides: list[str]) -> None:
        """Raises Refusal if the points cannot be listed."""
        super().__init__(loader)
        parsed = OverridesParser.create(config_loader=loader).parse_overrides(overrides)
        fixed = [override.input_line or "" for override in parsed if not override.is_sweep_override()]
        config = hydra_compose("config", fixed, return_hydra_config=True)
        self.launcher = str(config.launcher.type)
        """Of the points whose own overrides name no other."""
        self.points = list(_points(config, loader, parsed, overrides))


@contextmanager
def sweep_of(overrides: list[str]) -> Iterator[Sweep]:
    """The sweep of rewritten overrides. Raises Refusal if its points cannot be listed."""
    with composing() as loader:
        yield Sweep(loader, overrides)


class Base:
    """A composition of options, to which value overrides can be applied."""

    def __init__(self, blocks: DictConfig, recording: Recording) -> None:
        unresolved = OmegaConf.to_container(blocks, resolve=False)
        self.interpolates = "${" in str(unresolved)
        self._blocks = blocks
        self._plain = {} if self.interpolates else plain(blocks)
        self._chains = Chains().with_layers(recording.layers)
        self._options = recording.choices()
        self._blocks_made: dict[tuple[str, ...], Any] = {}

    def blocks_with(self, values: Sequence[Override]) -> dict[str, Any]:
        by_block: dict[str, list[Override]] = {}
        for override in values:
            by_block.setdefault(override.key_or_group.partition(".")[0], []).append(override)
        return {**self._plain, **{name: self._block(name, each) for name, each in by_block.items()}}

    def _block(self, name: str, values: Sequence[Override]) -> Any:
        """Cached, because the points of a grid share most blocks."""
        key = tuple(override.input_line or "" for override in values)
        if key not in self._blocks_made:
            config = OmegaConf.masked_copy(self._blocks, name)
            OmegaConf.set_struct(config, True)
            ConfigLoaderImpl._apply_overrides_to_config(list(values), config)
            self._blocks_made[key] = plain(config)[name]
        return self._blocks_made[key]

    def provenance_with(self, values: Sequence[Override]) -> Provenance:
        return Provenance(options=self._options, experiment=self._chains.with_overrides(values).overridden())


def _points(
    config: DictConfig, loader: RecordingLoader, parsed: Sequence[Override], overrides: list[str]
) -> Iterator[Point]:
    require_working_folder(config)
    hydra = config.hydra
    refuse_if_any([*sweep_folder_problems(hydra, overrides), *_two_launchers(config)])
    if hydra.sweeper._target_ != BASIC:
        reason = "this sweeper chooses its points while it runs"
        raise Unlistable([Problem("hydra/sweeper", hydra.sweeper._target_, reason, "basic")])
    of_file = OverridesParser.create(config_loader=loader).parse_overrides(
        [f"{key}={value}" for key, value in (hydra.sweeper.params or {}).items()]
    )
    of_experiment = [override for override in parsed if not override.is_hydra_override()]
    (batch,) = BasicSweeper.split_arguments([*of_file, *of_experiment], max_batch_size=None)
    of_hydra = [override.input_line or "" for override in parsed if override.is_hydra_override()]
    folder = Path(hydra.sweep.dir).absolute()
    for number, point in enumerate(batch):
        yield Point(number, folder / str(number), (*of_hydra, *point))


def _two_launchers(config: DictConfig) -> Iterator[Problem]:
    target = config.hydra.launcher._target_
    if makes_arrays(config.launcher.type) and target != LOCAL:
        reason = f"launcher={config.launcher.type} starts the points of a sweep itself, as one job array"
        yield Problem("hydra/launcher", target, reason, "basic", either("hydra/launcher=basic"))


@cache
def _parsed(text: str) -> Override:
    """Cached, because the points of a sweep share most overrides."""
    return OverridesParser.create().parse_override(text)


def _sets_experiment(override: Override) -> bool:
    block = override.key_or_group.partition(".")[0]
    names_a_group = override.key_or_group in config_groups()
    return block in Experiment.model_fields and sets_a_value(override, names_a_group)
