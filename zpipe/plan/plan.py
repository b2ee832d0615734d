"""The Plan: everything that was decided about one run, as a value.

It is written to `plan.json` in the run folder before anything is spawned, and it is all that the
workers read. The dry run (`zpipe plan`) ends with it.
"""

import json
import os
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import ValidationError

from zpipe.plan.provenance import Provenance
from zpipe.problems import Problem, Refusal
from zpipe.redact import redact_environment, redact_override, redact_uri, remember_secrets
from zpipe.schema.base import Group
from zpipe.schema.experiment import Experiment

FILE_NAME = "plan.json"


class Notice(Group):
    """Something that the user did not ask about and should know."""

    level: Literal["warning", "advice", "info"]
    key: str
    text: str


class ModelFacts(Group):
    """What is known about the model before it is loaded."""

    name: str
    """For people: the preset, folder or hub id."""
    random_init: bool
    config: dict[str, Any]
    """transformers' configuration, as far as it could be read without a download; {} if not at all."""
    tokenizer: str
    """"bytes" for ByT5's tokenizer, which needs no files; otherwise a folder or hub id."""
    hidden_size: int | None
    parameters: int | None
    """Elements, tied weights counted once."""


class Launch(Group):
    """How the workers are started."""

    launcher: str
    device: Literal["cuda", "cpu"]
    nproc_per_node: int
    world_size: int
    argv: list[str]
    env: dict[str, str]
    """Added to the environment of the parent."""


class Engine(Group):
    """What the worker must find once DeepSpeed's engine has started, beside the JSON itself."""

    optimizer: str
    """Name of the class that updates the parameters, inside ZeRO's own."""
    scheduler: str
    """Name of the class of the learning-rate scheduler."""
    dtype: str
    """Format of the model's parameters: fp32, fp16 or bf16."""


class Plan(Group):
    """One run, decided. Paths are absolute, sizes in bytes, DeepSpeed's counts in elements."""

    format: Literal[1] = 1
    run_dir: str
    versions: dict[str, str]
    """Installed packages that take part, by distribution name."""
    command: list[str]
    """The overrides as the user typed them."""
    experiment: Experiment
    ds_config: dict[str, Any]
    training_arguments: dict[str, Any]
    """Keyword arguments of transformers.TrainingArguments, without `deepspeed`."""
    engine: Engine
    model: ModelFacts
    launch: Launch
    operators: list[str]
    """DeepSpeed operators that this run loads, and builds on first use, by their builder's NAME."""
    swap_dir: str | None
    """Folder of this run's swap files, removed when the run ends; null without nvme."""
    unresolved: dict[str, str]
    """Dotted JSON keys left at `auto`, each with the reason."""
    notices: list[Notice]
    expected_files: list[str]
    """Relative to run_dir, what a finished run leaves behind."""
    provenance: Provenance = Provenance()
    """Where the values of the experiment and of the JSON came from."""

    @property
    def folder(self) -> Path:
        return Path(self.run_dir)

    @property
    def precision(self) -> str:
        """The training precision with `auto` resolved: fp32, tf32, fp16 or bf16."""
        return "tf32" if self.experiment.precision.dtype == "tf32" else self.engine.dtype

    @property
    def tokens_per_step(self) -> int:
        """Tokens that all devices process in one optimizer step."""
        return self.sequences_per_pass * self.accumulation * self.experiment.data.max_length

    @property
    def accumulation(self) -> int:
        """Micro-batches between two optimizer steps."""
        return int(self.ds_config["gradient_accumulation_steps"])

    @property
    def sequences_per_pass(self) -> int:
        """Different sequences that all devices process in one micro-batch; AutoTP's groups share theirs."""
        group = self.experiment.deepspeed.tensor_parallel.autotp_size or 1
        return self.experiment.batch.per_device_train_batch_size * (self.launch.world_size // max(1, group))


def claim(run_dir: Path) -> None:
    """Raises Refusal if the folder already holds a run or a plan."""
    if (run_dir / FILE_NAME).exists():
        reason = "this folder already holds a run, which would be overwritten"
        raise Refusal(
            [Problem("hydra.run.dir", str(run_dir), reason, "a new folder", "leave hydra.run.dir out")]
        )


def write_plan(plan: Plan) -> Path:
    """Writes plan.json, ds_config.json and config.yaml into the run folder, each whole or not at all.

    Secrets are left out: the parent has them in memory, and the workers get them through their environment.
    """
    remember_secrets(
        {**plan.experiment.launcher.env, **plan.experiment.tracking.tags}, plan.experiment.tracking.uri
    )
    plan.folder.mkdir(parents=True, exist_ok=True)
    plan = without_secrets(plan)
    write_json(plan.folder / "ds_config.json", plan.ds_config)
    write_text(plan.folder / "config.yaml", yaml.safe_dump(plan.experiment.model_dump(), sort_keys=False))
    return write_json(plan.folder / FILE_NAME, plan.model_dump(mode="json"))


def without_secrets(plan: Plan) -> Plan:
    """The plan as it may be written and printed: no passwords in its store, environment, tags and command."""
    experiment = plan.experiment
    uri, tags = experiment.tracking.uri, experiment.tracking.tags
    tracking = experiment.tracking.model_copy(
        update={"uri": redact_uri(uri) if uri else None, "tags": redact_environment(tags)}
    )
    launcher = experiment.launcher.model_copy(update={"env": redact_environment(experiment.launcher.env)})
    return plan.model_copy(
        update={
            "command": [redact_override(override) for override in plan.command],
            "experiment": experiment.model_copy(update={"tracking": tracking, "launcher": launcher}),
            "launch": plan.launch.model_copy(update={"env": redact_environment(plan.launch.env)}),
            "provenance": plan.provenance.without_secrets(),
        }
    )


def read_plan(path: Path) -> Plan:
    """Reads a plan.json, or the one inside a run folder. Raises Refusal for what is none."""
    return read_own(
        Plan, path / FILE_NAME if path.is_dir() else path, "plan", f"a run folder, or a {FILE_NAME}"
    )


Own = TypeVar("Own", bound=Group)


def read_own(kind: type[Own], file: Path, what: str, allowed: str) -> Own:
    """A JSON file that zpipe wrote; raises Refusal where it is missing, damaged or another version's."""
    try:
        return kind.model_validate_json(file.read_text())
    except OSError as error:
        reason = f"it cannot be read: {error.strerror}"
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        reason = f"not a {what} of this version of zpipe: {where}: {first['msg']}"
    raise Refusal([Problem(what, str(file), reason, allowed)])


def write_json(path: Path, value: Any) -> Path:
    """Writes JSON so that a reader sees the old file or the new one, never half of it."""
    return write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> Path:
    """Writes a text file so that a reader sees the old one or the new one, never half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(path)
    return path
