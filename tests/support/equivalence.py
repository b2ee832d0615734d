"""Compares an imported DeepSpeed JSON with the plan of its import, as DeepSpeed reads both."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tests.support.planning import H200, gpus
from tests.support.upstream import Run, completed, read
from zpipe.memory.zero_sizes import HIDDEN_SIZE_FORMULAS
from zpipe.plans.plan import Plan
from zpipe.trees import value_at

ONE_GPU = gpus(H200)
_SIZES = {f"zero_optimization.{name}" for name in HIDDEN_SIZE_FORMULAS}


def run_of(plan: Plan) -> Run:
    """The run that the plan describes."""
    arguments = plan.training_arguments
    steps = arguments["max_steps"] if arguments["max_steps"] > 0 else 1000
    return Run(arguments, plan.launch.world_size, plan.model.hidden_size, steps)


def with_required(config: Mapping[str, Any]) -> dict[str, Any]:
    """A fragment of a JSON, such as the guide shows, with the keys that accelerate and DeepSpeed require."""
    has_batch = any(name in config for name in ("train_batch_size", "train_micro_batch_size_per_gpu"))
    batch = {} if has_batch else {"train_micro_batch_size_per_gpu": "auto"}
    return {"zero_optimization": {"stage": 0}, **batch, **config}


def _rate_without_effect(config: Mapping[str, Any]) -> dict[str, Any]:
    """The rate that transformers requires beside a WarmupDecayLR that reaches a peak of its own."""
    own_peak = value_at(config, "scheduler.type") == "WarmupDecayLR" and "warmup_max_lr" not in (
        value_at(config, "scheduler.params") or {}
    )
    rate = value_at(config, "optimizer.params.lr")
    return {"learning_rate": rate} if own_peak and isinstance(rate, float) else {}


def differences(config: Mapping[str, Any], plan: Plan) -> dict[str, tuple[Any, Any]]:
    """Keys that DeepSpeed reads differently from the plan's JSON, with both values. Raises what it raises.

    Not those that change no result: its throughput timer, which is off in a plan unless the JSON names it,
    and sizes of stage 3 that are `auto`, which follow from the GPU's memory in a plan.
    """
    run = run_of(plan)
    agreeing = replace(run, arguments={**run.arguments, **_rate_without_effect(config)})
    theirs = read(completed(with_required(config), agreeing), run.processes)
    ours = read(completed(plan.ds_config, run), run.processes)
    keys = sorted(theirs.keys() | ours.keys())
    if "timers" not in config:
        keys = [key for key in keys if not key.startswith("timers.")]
    zero = config.get("zero_optimization", {})
    keys = [key for key in keys if zero.get(key.rpartition(".")[2]) != "auto" or key not in _SIZES]
    return {key: (theirs.get(key), ours.get(key)) for key in keys if theirs.get(key) != ours.get(key)}
