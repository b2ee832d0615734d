"""Brings what DeepSpeed and accelerate accept in a JSON into the form of the documented keys and values.

Sources: deepspeed/runtime/zero/config.py (fields are accepted by name and by alias), runtime/lr_schedules.py
(last_batch_iteration), runtime/torch_autocast.py (dtype names), accelerate/utils/deepspeed.py and
accelerator.py (`auto`).
"""

from collections.abc import Mapping
from typing import Any

from zpipe.converters.result import Draft
from zpipe.trees import Tree, value_at

ZERO_NAMES = {
    "gather_16bit_weights_on_model_save": "stage3_gather_16bit_weights_on_model_save",
    "max_live_parameters": "stage3_max_live_parameters",
    "max_reuse_distance": "stage3_max_reuse_distance",
    "prefetch_bucket_size": "stage3_prefetch_bucket_size",
    "param_persistence_threshold": "stage3_param_persistence_threshold",
    "model_persistence_threshold": "stage3_model_persistence_threshold",
    "module_granularity_threshold": "stage3_module_granularity_threshold",
}
"""Names of the fields of DeepSpeedZeroConfig, with their aliases."""

AUTO_FILLED = {
    "zero_optimization.stage": 2,
    "zero_optimization.stage3_gather_16bit_weights_on_model_save": False,
    "zero_optimization.offload_optimizer.device": "none",
    "zero_optimization.offload_param.device": "none",
    "zero_optimization.offload_optimizer.nvme_path": "none",
    "zero_optimization.offload_param.nvme_path": "none",
}
"""Keys whose `auto` accelerate fills in, with its value under the Trainer."""

WARMUP_TYPES = ("linear", "log")
DTYPES = {
    "fp16": ("torch.float16", "float16", "half"),
    "bf16": ("torch.bfloat16", "bfloat16"),
    "fp32": ("torch.float32", "float32", "float"),
}
"""Names of dtypes that DeepSpeed's DtypeEnum takes."""

GATHER = "zero_optimization.stage3_gather_16bit_weights_on_model_save"


def in_documented_form(config: Mapping[str, Any], draft: Draft) -> Tree:
    """A copy of the JSON with documented names and values; each change is a note."""
    tree: Tree = _copied(config)
    zero = tree.get("zero_optimization")
    if isinstance(zero, dict):
        _rename(zero, draft)
        _drop_empty_offload(zero, draft)
    _fill_auto(tree, draft)
    _plain_values(tree, draft)
    return tree


def keeps_weights_partitioned(config: Mapping[str, Any]) -> bool:
    """Whether the JSON saves a stage 3 model without gathering its weights."""
    zero = config.get("zero_optimization")
    if not isinstance(zero, Mapping) or zero.get("stage") not in (3, "3"):
        return False
    return zero.get(GATHER.partition(".")[2]) in (None, False)


def shards_tensors(config: Mapping[str, Any]) -> bool:
    """Whether the JSON would save a model of AutoTP without gathering its weights."""
    size = value_at(config, "tensor_parallel.autotp_size")
    return isinstance(size, int) and size > 1 and value_at(config, GATHER) in (None, False)


def _copied(value: Any) -> Any:
    return {name: _copied(inner) for name, inner in value.items()} if isinstance(value, Mapping) else value


def _rename(zero: Tree, draft: Draft) -> None:
    for name, alias in ZERO_NAMES.items():
        if name in zero and alias not in zero:
            value = zero.pop(name)
            zero[alias] = value
            draft.note(f"zero_optimization.{name}", value, f"another name of {alias}")


def _drop_empty_offload(zero: Tree, draft: Draft) -> None:
    for name in ("offload_optimizer", "offload_param"):
        if name in zero and zero[name] is None:
            del zero[name]
            draft.note(f"zero_optimization.{name}", None, "left out: null turns offloading off")


def _fill_auto(tree: Tree, draft: Draft) -> None:
    for key, value in AUTO_FILLED.items():
        *blocks, name = key.split(".")
        node: Any = tree
        for block in blocks:
            node = node.get(block) if isinstance(node, dict) else None
        if isinstance(node, dict) and node.get(name) == "auto":
            node[name] = value
            draft.note(key, "auto", f"accelerate fills in {str(value).lower()}")
        if isinstance(node, dict) and name == "nvme_path" and node.get(name) == "none":
            del node[name]  # accelerate's word for a missing path


def _plain_values(tree: Tree, draft: Draft) -> None:
    autocast, optimizer, scheduler = (tree.get(name) for name in ("torch_autocast", "optimizer", "scheduler"))
    _plain_dtype("torch_autocast", autocast, "dtype", {"fp16": "float16", "bf16": "bfloat16"}, draft)
    for name in ("grad_accum_dtype", "param_dtype", "buffer_dtype"):
        _plain_dtype("data_types", tree.get("data_types"), name, {}, draft)
    params = optimizer.get("params") if isinstance(optimizer, dict) else None
    for name in ("torch_adam", "adam_w_mode"):
        if isinstance(params, dict) and isinstance(params.get(name), str):
            given = params[name]
            params[name] = bool(given)
            draft.note(f"optimizer.params.{name}", given, "DeepSpeed takes every text for true")
    _plain_scheduler(scheduler.get("params") if isinstance(scheduler, dict) else None, draft)


def _plain_dtype(block: str, values: Any, name: str, documented: dict[str, str], draft: Draft) -> None:
    """Replaces another name of a dtype by the documented one."""
    given = values.get(name) if isinstance(values, dict) else None
    short = next((each for each, others in DTYPES.items() if given in (each, *others)), None)
    if short is not None and given != documented.get(short, short):
        values[name] = documented.get(short, short)
        draft.note(f"{block}.{name}", given, f"read as {values[name]}")


def _plain_scheduler(params: Any, draft: Draft) -> None:
    if not isinstance(params, dict):
        return
    if "last_batch_iteration" in params:
        given = params.pop("last_batch_iteration")
        draft.note(
            "scheduler.params.last_batch_iteration", given, "left out: the schedule starts with the run"
        )
    shape = params.get("warmup_type")
    if isinstance(shape, str) and shape not in WARMUP_TYPES:
        del params["warmup_type"]
        reason = (
            f"left out: DeepSpeed knows {' and '.join(WARMUP_TYPES)} only, and uses log for anything else"
        )
        draft.note("scheduler.params.warmup_type", shape, reason)
