"""The Experiment: every setting of one run, typed and frozen."""

from typing import Any

from pydantic import Field

from zpipe.schema.auto import Automatic
from zpipe.schema.base import Group, defaults_of
from zpipe.schema.batch import Batch
from zpipe.schema.checkpoint import Checkpoint
from zpipe.schema.data import Data
from zpipe.schema.deepspeed import DeepSpeed
from zpipe.schema.engine import ActivationCheckpointing, Compile, Profiler
from zpipe.schema.hardware import HardwareSettings
from zpipe.schema.kernels import Kernels
from zpipe.schema.launcher import Launcher
from zpipe.schema.memory import Memory
from zpipe.schema.model import Model
from zpipe.schema.offload import Offload
from zpipe.schema.optimizer import Optimizer
from zpipe.schema.precision import Precision
from zpipe.schema.resume import Resume
from zpipe.schema.scheduler import Scheduler
from zpipe.schema.stage import Stage
from zpipe.schema.tracking import Tracking
from zpipe.schema.train import Train


class Experiment(Group):
    """One run, as composed from conf/, a recipe and overrides. One attribute for each config group."""

    stage: Stage = Field(default_factory=Stage)
    offload: Offload = Field(default_factory=Offload)
    precision: Precision = Field(default_factory=Precision)
    optimizer: Optimizer = Field(default_factory=Optimizer)
    scheduler: Scheduler = Field(default_factory=Scheduler)
    batch: Batch = Field(default_factory=Batch)
    activation_checkpointing: ActivationCheckpointing = Field(default_factory=ActivationCheckpointing)
    compile: Compile = Field(default_factory=Compile)
    kernels: Kernels = Field(default_factory=Kernels)
    profiler: Profiler = Field(default_factory=Profiler)
    deepspeed: DeepSpeed = Field(default_factory=DeepSpeed)
    train: Train = Field(default_factory=Train)
    model: Model = Field(default_factory=Model)
    data: Data = Field(default_factory=Data)
    launcher: Launcher = Field(default_factory=Launcher)
    hardware: HardwareSettings = Field(default_factory=HardwareSettings)
    checkpoint: Checkpoint = Field(default_factory=Checkpoint)
    resume: Resume = Field(default_factory=Resume)
    tracking: Tracking = Field(default_factory=Tracking)
    memory: Memory = Field(default_factory=Memory)
    auto: Automatic = Field(default_factory=Automatic)
    strict: bool | None = None
    """Which differences between the plan and DeepSpeed's actual settings end the run.

    true: all of them; false: none; null: those that affect memory or results."""

    @property
    def has_compiled_layers(self) -> bool:
        """Whether a layer is one graph: the hooks of stage 3 split it into many that fuse little."""
        return self.train.is_compiled and self.stage.stage < 3


def defaults() -> dict[str, Any]:
    """Every key with its default: the base that the YAML files are merged into."""
    return defaults_of(Experiment)
