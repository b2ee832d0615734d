"""What can be said only when every file is read: options, precision, and what DeepSpeed reads into gaps."""

from functools import cache
from typing import Any

import yaml

from zpipe.converters.result import Found, brief
from zpipe.problems import Problem
from zpipe.resources import CONF, config_groups
from zpipe.schema.json_names import json_key
from zpipe.schema.optimizer import DEEPSPEED_TYPES, SHARED_PARAMS, TORCH_TYPES
from zpipe.schema.precision import Bf16, Fp16

OFFLOADS: dict[tuple[str, str], str] = {
    ("none", "none"): "none",
    ("cpu", "none"): "cpu_optimizer",
    ("cpu", "cpu"): "cpu",
    ("nvme", "none"): "nvme_optimizer",
    ("nvme", "nvme"): "nvme",
}
"""Option of the group `offload` by the devices of optimizer and parameters."""

LR_RANGE_TEST_MIN_LR = 1e-3
"""Where DeepSpeed begins the range test if the JSON does not say; zpipe begins at train.learning_rate."""
WARMUP_NUM_STEPS = 1000
"""DeepSpeed's default of what zpipe would work out otherwise (deepspeed/runtime/lr_schedules.py)."""


def settle(found: Found) -> None:
    """Completes options and values; nothing of the files is looked at after this."""
    if found.json_seen:
        _stage(found)
        _offload(found)
    if found.json_seen or found.arguments_seen:
        _optimizer(found)
        _scheduler(found)
        _batch(found)
    _precision(found)


def _stage(found: Found) -> None:
    stage = found.values.pop("stage.stage", 0)
    if str(stage) in config_groups()["stage"]:
        found.choose("stage", str(stage))
    else:
        allowed = ", ".join(config_groups()["stage"])
        found.refuse(Problem("zero_optimization.stage", brief(stage), "no such stage", allowed))


def _offload(found: Found) -> None:
    keys = ("offload.offload_optimizer.device", "offload.offload_param.device")
    devices = tuple(str(found.values.get(key, "none")) for key in keys)
    option = OFFLOADS.get((devices[0], devices[1]))
    found.choose("offload", option or "none")
    if option is not None or "offload" in found.fixed:
        for key in keys:
            found.values.pop(key, None)
    if "nvme" not in devices:
        for key in [key for key in found.values if key.startswith("offload.aio.")]:
            value, source = found.values.pop(key), found.sources[key]
            found.note(source, value, "left out: acts under nvme offload only")
        return
    _swapping(found)


def _swapping(found: Found) -> None:
    path = found.values.get("offload.nvme_path")
    if path is not None:
        for name in ("offload_optimizer", "offload_param"):
            key = f"zero_optimization.{name}.nvme_path"
            if key in found.present:
                found.note(key, path, "each run makes a folder of its own below it")
    for name in ("stage3_prefetch_bucket_size", "stage3_param_persistence_threshold"):
        if found.values.get(f"stage.{name}") == "auto":
            reason = "under nvme offload zpipe takes what swapping cannot run out of buffers with"
            found.note(f"zero_optimization.{name}", "auto", reason)


def _optimizer(found: Found) -> None:
    kind = found.values.pop("optimizer.type", None)
    asked = found.formats.get("argument.optim")
    if kind is not None:
        _deepspeeds_optimizer(_spelled(kind), found)
        if asked is not None:
            found.note("optim", asked, f"left out: the optimizer block of the JSON decides: {kind}")
        return
    if any(key.startswith("optimizer.") for key in found.present):
        reason = "not given, so that DeepSpeed ignores the whole block"
        found.refuse(Problem("optimizer.type", "", reason, fix='"type": "AdamW"'), "optimizer=adamw")
        found.choose("optimizer", "adamw")
    elif asked is not None:
        _choose_by("optim", str(asked), "optimizer", found)
    elif found.options.get("offload", "none") == "none":
        found.choose("optimizer", "adamw_torch_fused")
    else:
        reason = "not given: under offload accelerate puts DeepSpeed's CPU Adam in; optimizer=adamw says so"
        found.note("optimizer", "", reason)
        found.choose("optimizer", "adamw")


def _spelled(kind: Any) -> str:
    names = {name.lower(): name for name in (*DEEPSPEED_TYPES, *TORCH_TYPES)}
    return names.get(str(kind).lower(), str(kind))


def _deepspeeds_optimizer(kind: str, found: Found) -> None:
    _choose_by("type", kind, "optimizer", found)
    if kind == "Adam" and "optimizer.params.adam_w_mode" not in found.present:
        found.put("optimizer.params.adam_w_mode", True, "optimizer.type")  # to DeepSpeed "Adam" is AdamW
    homes = {
        "lr": "learning_rate",
        "betas": "adam_beta1",
        "eps": "adam_epsilon",
        "weight_decay": "weight_decay",
    }
    for name in sorted(SHARED_PARAMS.get(kind, frozenset())):
        key = f"optimizer.params.{name}"
        if key not in found.present:
            found.note(key, "", f"not given: zpipe writes train.{homes[name]}, not {kind}'s own default")


def _scheduler(found: Found) -> None:
    kind = found.values.pop("scheduler.type", None)
    asked = found.formats.get("argument.lr_scheduler_type")
    if kind is None:
        if any(key.startswith("scheduler.") for key in found.present):
            reason = "not given, so that DeepSpeed ignores the whole block"
            found.refuse(Problem("scheduler.type", "", reason, fix='"type": "WarmupLR"'))
        _transformers_scheduler(str(asked or "linear"), found)
        return
    _choose_by("type", str(kind), "scheduler", found)
    if asked not in (None, "linear"):
        found.note("lr_scheduler_type", asked, f"left out: the scheduler of the JSON decides: {kind}")
    key = "scheduler.params.warmup_num_steps"
    if str(kind).startswith("Warmup") and key not in found.present:
        found.put("train.warmup_steps", WARMUP_NUM_STEPS, key)
    elif key in found.values and key not in found.fixed:  # transformers takes no other in the JSON
        found.put("train.warmup_steps", found.values.pop(key), key)
    first = "scheduler.params.lr_range_test_min_lr"
    if kind == "LRRangeTest" and first not in found.present:
        found.put(first, LR_RANGE_TEST_MIN_LR, first)


def _transformers_scheduler(kind: str, found: Found) -> None:
    """By its option, unless that brings parameters of its own, which would mix with those of the files."""
    option = _options("scheduler", "lr_scheduler_type").get(kind, "linear")
    brings = "lr_scheduler_kwargs" in yaml.safe_load((CONF / "scheduler" / f"{option}.yaml").read_text())
    if brings and "scheduler.lr_scheduler_kwargs" in found.values:
        found.choose("scheduler", "linear")
        found.put("scheduler.lr_scheduler_type", kind, "lr_scheduler_type")
    else:
        _choose_by("lr_scheduler_type", kind, "scheduler", found)


def _choose_by(key: str, value: str, group: str, found: Found) -> None:
    """The option that sets the key to this value, or else the key itself on top of the group's first."""
    option = _options(group, key).get(value)
    if option is not None:
        found.choose(group, option)
        return
    first = {"optimizer": "adamw", "scheduler": "linear"}[group]
    found.choose(group, first)
    if group in found.fixed:
        return
    other = {"type": "optim" if group == "optimizer" else "lr_scheduler_type"}.get(key, "type")
    found.values.update({f"{group}.{key}": value, f"{group}.{other}": None})
    found.sources.setdefault(f"{group}.{key}", f"{group}.{key}" if key == "type" else key)


@cache
def _options(group: str, key: str) -> dict[str, str]:
    """For each value of the key the option that sets it."""
    options: dict[str, str] = {}
    for file in sorted((CONF / group).glob("*.yaml")):
        content = yaml.safe_load(file.read_text())
        if key in content:
            options.setdefault(str(content[key]), file.stem)
    return options


def _batch(found: Found) -> None:
    """DeepSpeed splits train_batch_size over the processes; zpipe accumulates."""
    total = found.values.get("batch.train_batch_size")
    if total is not None and "train_micro_batch_size_per_gpu" not in found.present:
        reason = "not given: DeepSpeed divides train_batch_size by the processes; here the default applies"
        found.note("train_micro_batch_size_per_gpu", "", reason)


def _precision(found: Found) -> None:
    chosen = found.options.get("precision") or _decided(found)
    if chosen is not None:
        found.choose("precision", chosen)
    for format_, group in (("fp16", Fp16), ("bf16", Bf16)):
        if found.options.get("precision") == format_:
            continue
        names = [name for name in group.model_fields if f"precision.{format_}.{name}" in found.values]
        for name in names:
            del found.values[f"precision.{format_}.{name}"]
        if names:
            reason = f"left out, because they act under precision={format_}: {', '.join(names)}"
            found.note(format_, {"": names}, reason, f"precision={format_} behind the files")


def _decided(found: Found) -> str | None:
    """The precision that the files choose; null where they say nothing of it."""
    block = {name: found.formats.get(name, False) for name in ("fp16", "bf16")}
    flag = {name: found.formats.get(f"argument.{name}", False) for name in ("fp16", "bf16")}
    on = {name for name in block if block[name] is True or flag[name]}
    for name in sorted(on):
        if flag[name] and block[name] is False and name in found.formats:
            reason = "contradicts the arguments, and transformers refuses the mismatch"
            found.refuse(Problem(f"{name}.enabled", False, reason, "auto, or the same in both"))
    if len(on) > 1:
        found.refuse(
            Problem("fp16.enabled", True, "DeepSpeed refuses fp16 and bf16 together", "one of the two")
        )
    if flag["fp16"] and found.json_seen and "fp16" not in found.formats:
        found.put("precision.fp16.auto_cast", True, "fp16")  # what accelerate does without an fp16 block
    if on:
        return max(on, key=lambda name: block[name] is True)
    for name, value in block.items():
        if value == "auto" and not found.arguments_seen:
            reason = f"transformers' {name} argument decides, and without one it is off"
            found.note(f"{name}.enabled", "auto", reason, f"precision={name} behind the files")
    if found.formats.get("argument.tf32"):
        return "tf32"
    return "fp32" if found.json_seen or found.arguments_seen else None


def absent_in_the_json(found: Found, composed: dict[str, Any]) -> dict[str, None]:
    """Keys that the chosen options set, and that the JSON leaves to DeepSpeed's defaults."""
    if not found.json_seen:
        return {}
    set_by_options = (f"stage.{name}" for name, value in composed["stage"].items() if _is_set(value))
    taken = {*found.values, *found.fixed, "stage.stage"}
    return {key: None for key in set_by_options if key not in taken and json_key(key) is not None}


def _is_set(value: Any) -> bool:
    return value is not None and not isinstance(value, dict)
