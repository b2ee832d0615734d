"""Decisions that need all files: options, precision, and DeepSpeed's defaults for missing keys."""

from typing import Any

from zpipe.converters.own_defaults import keep_optimizer_defaults
from zpipe.converters.resolve_optimizing import resolve_optimizer, resolve_scheduler
from zpipe.converters.result import Draft, brief
from zpipe.problems import Problem
from zpipe.resources import config_groups
from zpipe.schema.json_names import json_key
from zpipe.schema.precision import Bf16, Fp16

TOTAL, MICRO = "train_batch_size", "per_device_train_batch_size"
OFFLOADS: dict[tuple[str, str], str] = {
    ("none", "none"): "none",
    ("cpu", "none"): "cpu_optimizer",
    ("cpu", "cpu"): "cpu",
    ("nvme", "none"): "nvme_optimizer",
    ("nvme", "nvme"): "nvme",
}
"""Option of the group `offload` by the devices of optimizer and parameters."""


def resolve(draft: Draft) -> None:
    """Completes options and values after all files are read."""
    if draft.has_json:
        _stage(draft)
        _offload(draft)
    if draft.has_json or draft.has_arguments:
        resolve_optimizer(draft)
        resolve_scheduler(draft)
        keep_optimizer_defaults(draft)
        _batch(draft)
    _precision(draft)


def _stage(draft: Draft) -> None:
    stage = draft.values.pop("stage.stage", 0)
    if str(stage) in config_groups()["stage"]:
        draft.choose("stage", str(stage))
    else:
        allowed = ", ".join(config_groups()["stage"])
        draft.refuse(Problem("zero_optimization.stage", brief(stage), "no such stage", allowed))


def _offload(draft: Draft) -> None:
    keys = ("offload.offload_optimizer.device", "offload.offload_param.device")
    if "offload" not in draft.overridden:
        _offload_below_stage_3(draft)
    devices = tuple(str(draft.values.get(key, "none")) for key in keys)
    option = OFFLOADS.get((devices[0], devices[1]))
    draft.choose("offload", option or "none")
    if option is not None or "offload" in draft.overridden:
        for key in keys:
            draft.values.pop(key, None)
    if "nvme" not in devices:
        for key in [key for key in draft.values if key.startswith("offload.aio.")]:
            value, source = draft.values.pop(key), draft.sources[key]
            draft.note(source, value, "left out: acts under NVMe offload only")
        return
    _nvme_offload(draft)


def _offload_below_stage_3(draft: Draft) -> None:
    """Below stage 3 DeepSpeed keeps the parameters, and uses host memory in place of files."""
    stage = draft.options.get("stage")
    if stage not in ("0", "1", "2"):
        return
    block, device = "offload.offload_param.", "offload.offload_optimizer.device"
    if draft.values.get(f"{block}device", "none") != "none":
        source = "zero_optimization.offload_param"
        given = {key: draft.values.pop(key) for key in list(draft.values) if key.startswith(block)}
        draft.note(source, given, f"left out: DeepSpeed ignores parameter offload at stage {stage}")
    if draft.values.get(device) == "nvme" and stage != "0":
        draft.values[device] = "cpu"
        reason = f"converted as cpu: at stage {stage} DeepSpeed offloads to host memory instead"
        draft.note("zero_optimization.offload_optimizer.device", "nvme", reason)


def _nvme_offload(draft: Draft) -> None:
    path = draft.values.get("offload.nvme_path")
    if path is not None:
        for name in ("offload_optimizer", "offload_param"):
            key = f"zero_optimization.{name}.nvme_path"
            if key in draft.present:
                draft.note(key, path, "each run creates its own folder in it")
    for name in ("stage3_prefetch_bucket_size", "stage3_param_persistence_threshold"):
        if draft.values.get(f"stage.{name}") == "auto":
            reason = "under NVMe offload zpipe picks a value that cannot exhaust the swap buffers"
            draft.note(f"zero_optimization.{name}", "auto", reason)


def _batch(draft: Draft) -> None:
    """DeepSpeed divides the total by the other factors; without arguments, so does zpipe."""
    micro, accumulation = "batch.per_device_train_batch_size", "gradient_accumulation_steps"
    if draft.has_json and accumulation not in draft.present:
        _missing_accumulation(f"batch.{accumulation}", accumulation, draft)
    if draft.values.get("batch.train_batch_size") is None or micro in draft.values:
        return
    draft.put(micro, None, "train_batch_size")
    name = "train_micro_batch_size_per_gpu"
    state = "auto" if name in draft.present else ""
    reason = "" if state else "not given: "
    draft.note(name, state, f"{reason}train_batch_size divided by the accumulation and the processes")


def _missing_accumulation(key: str, source: str, draft: Draft) -> None:
    """accelerate adds 1, which fits a total and a micro-batch on one number of processes only."""
    given = draft.values.get(key)
    if given not in (None, 1):
        draft.note(source, given, "not in the JSON, where accelerate would add 1 beside the arguments")
    total, micro = (draft.values.get(f"batch.{name}") for name in (TOTAL, MICRO))
    if given is None and isinstance(total, int) and isinstance(micro, int) and 0 < micro < total:
        count = total // micro
        reason = f"not given: 1 on {count} processes, as in accelerate; on fewer, what {TOTAL} requires"
        draft.note(source, "", reason)


def _precision(draft: Draft) -> None:
    chosen = draft.options.get("precision") or _chosen_precision(draft)
    if chosen is not None:
        draft.choose("precision", chosen)
    for dtype, block in (("fp16", Fp16), ("bf16", Bf16)):
        if draft.options.get("precision") == dtype:
            continue
        names = [name for name in block.model_fields if f"precision.{dtype}.{name}" in draft.values]
        for name in names:
            del draft.values[f"precision.{dtype}.{name}"]
        if names:
            reason = f"left out, because they act under precision={dtype} only: {', '.join(names)}"
            said = draft.options.get("precision") == "auto"  # and proposed there
            draft.note(
                dtype, {"": names}, reason, "" if said else f"add precision={dtype} after the file names"
            )


def _chosen_precision(draft: Draft) -> str | None:
    """The precision that the files set; None if they do not set one."""
    block = {name: draft.pending.get(name, False) for name in ("fp16", "bf16")}
    flag = {name: draft.pending.get(f"argument.{name}", False) for name in ("fp16", "bf16")}
    on = {name for name in block if block[name] is True or flag[name]}
    for name in sorted(on):
        if flag[name] and block[name] is False and name in draft.pending:
            reason = "contradicts the arguments; transformers refuses the mismatch"
            draft.refuse(Problem(f"{name}.enabled", False, reason, "auto, or the same value in both"))
    if len(on) > 1:
        draft.refuse(
            Problem("fp16.enabled", True, "DeepSpeed refuses fp16 and bf16 together", "one of the two")
        )
    if flag["fp16"] and draft.has_json and "fp16" not in draft.pending:
        draft.put("precision.fp16.auto_cast", True, "fp16")  # what accelerate does without an fp16 block
    if on:
        return max(on, key=lambda name: block[name] is True)
    if draft.pending.get("argument.tf32"):
        return "tf32"
    if draft.has_json and not draft.has_arguments and "accelerate.mixed_precision" not in draft.pending:
        return _precision_of_a_json_alone(block, draft)
    return "fp32" if draft.has_json or draft.has_arguments else None


def _precision_of_a_json_alone(block: dict[str, Any], draft: Draft) -> str:
    """Nothing turns a precision on: `auto` follows the machine, as zpipe's default does."""
    left_open = [f"{name}.enabled" for name in ("bf16", "fp16") if block[name] == "auto"]
    others = " or ".join(f"precision={name}" for name in ("bf16", "fp16", *(["fp32"] if left_open else [])))
    fix = f"add {others} after the file names"
    if left_open:
        reason = (
            "--bf16 or --fp16 of transformers decides it, and is not given: precision=auto follows the GPU"
        )
        draft.note(", ".join(left_open), "auto", reason, fix)
        return "auto"
    if not set(block) & set(draft.pending):
        draft.note("precision", "fp32", "neither bf16 nor fp16 is in the JSON: DeepSpeed trains in fp32", fix)
    return "fp32"


def reset_to_deepspeed_defaults(draft: Draft, composed: dict[str, Any]) -> dict[str, None]:
    """Keys that the chosen options set and that the JSON leaves to DeepSpeed's defaults, each with None."""
    if not draft.has_json:
        return {}
    set_by_options = (
        f"stage.{name}"
        for name, value in composed["stage"].items()
        if value is not None and not isinstance(value, dict)
    )
    set_by_files = {*draft.values, *draft.overridden, "stage.stage"}
    return {key: None for key in set_by_options if key not in set_by_files and json_key(key) is not None}
