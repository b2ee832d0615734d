"""The name, parameters and tags of a run in MLflow, derived from its plan."""

import getpass
import os
import re
import shlex
from collections.abc import Iterator
from itertools import islice
from typing import Any

from zpipe import __version__
from zpipe.plans.plan import Plan
from zpipe.redact import redact, redact_tags
from zpipe.redact.names import is_secret_name
from zpipe.runfolder.figures import predicted_figures

RUN_DIR_TAG = "zpipe.run_dir"
ATTEMPTS_TAG = "zpipe.attempts"
"""Set when a run is started again."""
COMMAND_TAG = "zpipe.command"
"""MLflow shows only the end of mlflow.source.name, as of a path."""

NAMED_SETTINGS = 3
UNNAMED = frozenset({"hardware", "launcher", "tracking", "hydra"})
"""Groups whose settings do not change the training."""
_SHORT = re.compile(r"[\w.+-]{1,16}")


def run_name(plan: Plan) -> str:
    """The user's name for the run, or one of stage, offload, precision and the first settings typed."""
    given = plan.experiment.tracking.run_name
    if given:
        return given
    offload = plan.experiment.offload
    parts = [f"zero{plan.experiment.stage.stage}"]
    if offload.offload_optimizer.device != "none":
        parts.append(f"opt-{offload.offload_optimizer.device}")
    if offload.offload_param.device != "none":
        parts.append(f"param-{offload.offload_param.device}")
    return " ".join([*parts, plan.precision, *islice(_typed(plan), NAMED_SETTINGS)])


def _typed(plan: Plan) -> Iterator[str]:
    """Settings of the command line that tell runs apart, each by the last part of its key."""
    for override in plan.command:
        key, _, value = override.lstrip("+").partition("=")
        group, _, name = key.rpartition(".")
        is_shown = group.partition(".")[0] not in UNNAMED and _SHORT.fullmatch(value) is not None
        if group and is_shown and not is_secret_name(name):
            yield f"{name}={value}"


def command_line(plan: Plan) -> str:
    """The command that made the plan, without passwords."""
    return redact(shlex.join(["zpipe", *plan.command]), plan.experiment.tracking.uri)


def precision(plan: Plan) -> str:
    """The training dtype in the plan, even if the experiment sets `auto`."""
    for name in ("bf16", "fp16"):
        if plan.ds_config.get(name, {}).get("enabled") is True:
            return name
    dtype = plan.experiment.precision.dtype
    return "fp32" if dtype == "auto" else dtype


def params(plan: Plan) -> dict[str, str]:
    """The settings by which runs are compared, of any length; all others are in the artifacts."""
    experiment, train = plan.experiment, plan.experiment.train
    values: dict[str, Any] = {
        "model": plan.model.name,
        "parameters": plan.model.parameters,
        "data": experiment.data.path or experiment.data.source,
        "stage": experiment.stage.stage,
        "offload_optimizer": experiment.offload.offload_optimizer.device,
        "offload_param": experiment.offload.offload_param.device,
        "precision": plan.precision,
        "optimizer": experiment.optimizer.type or experiment.optimizer.optim,
        "scheduler": experiment.scheduler.type or experiment.scheduler.lr_scheduler_type,
        "learning_rate": train.learning_rate,
        "weight_decay": train.weight_decay,
        "warmup_steps": train.warmup_steps,
        "max_grad_norm": train.max_grad_norm,
        "per_device_train_batch_size": plan.micro_batch,
        "gradient_accumulation_steps": plan.ds_config.get("gradient_accumulation_steps"),
        "world_size": plan.launch.world_size,
        "tokens_per_step": plan.tokens_per_step,
        "max_length": experiment.data.max_length,
        "max_steps": train.max_steps if train.max_steps > 0 else None,
        "num_train_epochs": train.num_train_epochs if train.max_steps <= 0 else None,
        "seed": train.seed,
        "gradient_checkpointing": train.gradient_checkpointing,
        "reduce_bucket_size": plan.ds_config.get("zero_optimization", {}).get("reduce_bucket_size"),
    }
    values |= {name.removeprefix("memory/"): value for name, value in predicted_figures(plan.memory).items()}
    uri = experiment.tracking.uri
    return {key: redact(str(value), uri) for key, value in values.items() if value is not None}


def tags(plan: Plan, parent_run_id: str | None) -> dict[str, str]:
    """Tags of zpipe and MLflow, of any length; the user's tags take precedence."""
    uri = plan.experiment.tracking.uri
    own = {
        "zpipe.version": __version__,
        RUN_DIR_TAG: plan.run_dir,
        "zpipe.launcher": plan.launch.launcher,
        "zpipe.device": plan.launch.device,
        "zpipe.packages": " ".join(f"{name}={version}" for name, version in sorted(plan.versions.items())),
        COMMAND_TAG: command_line(plan),
        "mlflow.source.name": "zpipe",
        "mlflow.source.type": "LOCAL",
        "mlflow.user": _user(),
        "mlflow.note.content": _description(plan),
    }
    if parent_run_id:
        own["mlflow.parentRunId"] = parent_run_id
    safe = {key: redact(value, uri) for key, value in own.items()}
    return {**safe, **redact_tags(plan.experiment.tracking.tags)}


def _description(plan: Plan) -> str:
    """The description on the run's page, in Markdown."""
    lines = [f"`{command_line(plan)}`", "", f"Run folder: `{plan.run_dir}`"]
    lines += [f"- {notice.level}: {notice.text}" for notice in plan.notices if notice.level != "info"]
    return "\n".join(lines)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run under a uid without a name
        return str(os.getuid())
