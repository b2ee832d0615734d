"""Holds the engine's real settings against the plan."""

from typing import Any

from zpipe.plan import Plan
from zpipe.train.ranks import Reporter


def check_engine(engine: Any, plan: Plan, reporter: Reporter) -> None:
    """Says where DeepSpeed runs with other settings than the plan's."""
    for key, planned, real in differences(engine, plan):
        reporter.notice(f"DeepSpeed runs with {key}={real}, the plan says {planned}")


def differences(engine: Any, plan: Plan) -> list[tuple[str, Any, Any]]:
    """(key, planned, real) for each setting that differs; `auto` and unset keys are not compared."""
    zero = plan.ds_config.get("zero_optimization", {})
    pairs = [
        ("train_batch_size", plan.ds_config.get("train_batch_size"), engine.train_batch_size()),
        (
            "train_micro_batch_size_per_gpu",
            plan.ds_config.get("train_micro_batch_size_per_gpu"),
            engine.train_micro_batch_size_per_gpu(),
        ),
        (
            "gradient_accumulation_steps",
            plan.ds_config.get("gradient_accumulation_steps"),
            engine.gradient_accumulation_steps(),
        ),
        ("gradient_clipping", plan.ds_config.get("gradient_clipping"), engine.gradient_clipping()),
        ("zero_optimization.stage", zero.get("stage"), int(engine.zero_optimization_stage())),
        ("fp16.enabled", plan.ds_config.get("fp16", {}).get("enabled"), engine.fp16_enabled()),
        ("bf16.enabled", plan.ds_config.get("bf16", {}).get("enabled"), engine.bfloat16_enabled()),
    ]
    return [
        (key, planned, real)
        for key, planned, real in pairs
        if planned not in (None, "auto") and planned != real
    ]
