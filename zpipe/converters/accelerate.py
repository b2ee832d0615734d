"""An accelerate configuration with distributed_type: DEEPSPEED.

Upstream: accelerate/commands/config/config_args.py (ClusterConfig) and accelerate/utils/dataclasses.py
(DeepSpeedPlugin, which builds the same JSON as `zero_json`).
"""

from collections.abc import Mapping
from typing import Any

from zpipe.converters.result import Draft, brief
from zpipe.problems import Problem, nearest
from zpipe.schema.precision import NO_FP8
from zpipe.trees import set_at

SIGNATURE_KEYS = frozenset({"distributed_type", "compute_environment", "deepspeed_config"})
"""Keys that identify such a file."""

BY_LAUNCHER = "the launcher decides it"
OF_THE_LAUNCHER: dict[str, object] = {
    "compute_environment": "LOCAL_MACHINE",
    "machine_rank": 0,
    "main_process_ip": None,
    "main_process_port": None,
    "main_training_function": "main",
    "rdzv_backend": "static",
    "same_network": True,
    "enable_cpu_affinity": False,
}
"""Keys that zpipe's launcher decides, with what `accelerate config` writes; other values are reported."""
LEFT_OUT: dict[str, str] = {
    "debug": "set TORCH_DISTRIBUTED_DEBUG through launcher.env",
    "gpu_ids": "CUDA_VISIBLE_DEVICES decides which GPUs are used",
}
NOT_READ = frozenset(
    {"fp8_config", "fsdp_config", "megatron_lm_config", "mpirun_config", "downcast_bf16", "command_file"}
    | {"commands", "tpu_name", "tpu_zone", "tpu_use_cluster", "tpu_use_sudo", "tpu_vm", "tpu_env"}
)
"""Keys for other kinds of training, which `accelerate launch` does not pass on to DeepSpeed."""
PARALLELISM = "parallelism_config"
CONVERTED = (
    *("distributed_type", "deepspeed_config", "num_processes", "num_machines", "mixed_precision"),
    *("use_cpu", "dynamo_config", "dynamo_backend"),
)
KNOWN_KEYS = frozenset({*OF_THE_LAUNCHER, *LEFT_OUT, *NOT_READ, PARALLELISM, *CONVERTED})

PLUGIN: dict[str, str] = {
    "gradient_accumulation_steps": "gradient_accumulation_steps",
    "gradient_clipping": "gradient_clipping",
    "zero_stage": "zero_optimization.stage",
    "offload_optimizer_device": "zero_optimization.offload_optimizer.device",
    "offload_optimizer_nvme_path": "zero_optimization.offload_optimizer.nvme_path",
    "offload_param_device": "zero_optimization.offload_param.device",
    "offload_param_nvme_path": "zero_optimization.offload_param.nvme_path",
    "zero3_save_16bit_model": "zero_optimization.stage3_gather_16bit_weights_on_model_save",
}
"""Keys of deepspeed_config and the JSON keys that accelerate sets from them."""

USUAL_IN_PLUGIN = (None, True, "standard")
"""Values of keys without a counterpart that need no word."""
PLUGIN_LEFT_OUT: dict[str, str] = {
    "zero3_init_flag": "transformers always loads models partitioned at stage 3",
    "deepspeed_multinode_launcher": BY_LAUNCHER,
    "deepspeed_hostfile": BY_LAUNCHER,
    "deepspeed_exclusion_filter": BY_LAUNCHER,
    "deepspeed_inclusion_filter": BY_LAUNCHER,
}


def read_accelerate(config: Mapping[str, Any], draft: Draft) -> None:
    """Reads everything except deepspeed_config."""
    kind = config.get("distributed_type")
    if kind != "DEEPSPEED":
        reason = "zpipe runs DeepSpeed, and this configuration does not"
        draft.refuse(Problem("distributed_type", kind, reason, "DEEPSPEED", "distributed_type: DEEPSPEED"))
        return
    for name, value in config.items():
        if name in OF_THE_LAUNCHER and value not in (None, OF_THE_LAUNCHER[name]):
            draft.note(name, value, f"left out: {BY_LAUNCHER}")
        elif name in LEFT_OUT and value not in (None, False, "all"):
            draft.note(name, value, f"left out: {LEFT_OUT[name]}")
        elif name in NOT_READ and value not in (None, False, "no", "NO", {}, []):
            draft.note(name, value, "left out: accelerate does not read it with distributed_type: DEEPSPEED")
        elif name == PARALLELISM and _is_parallel(value):
            reason = "zpipe has tensor parallelism only, as deepspeed.tensor_parallel"
            draft.refuse(Problem(name, brief(value), reason), "left out")
        elif name not in KNOWN_KEYS:
            _unknown_key(name, value, KNOWN_KEYS, draft)
    _processes(config, draft)
    _torch_compile(config, draft)
    if config.get("mixed_precision") is not None:
        draft.pending["accelerate.mixed_precision"] = config["mixed_precision"]
    precision = str(config.get("mixed_precision") or "no").lower()
    if precision in ("fp16", "bf16"):
        draft.pending[f"argument.{precision}"] = True
    elif precision not in ("no", "false"):
        reason = NO_FP8 if precision == "fp8" else "zpipe has no such precision"
        draft.refuse(Problem("mixed_precision", precision, reason, "no, fp16, bf16"))


def _is_parallel(block: Any) -> bool:
    """Whether a parallelism_config has a group of more than one process, or is not a mapping."""
    if not isinstance(block, Mapping):
        return bool(block)
    return any(str(size) not in ("1", "None") for name, size in block.items() if name.endswith("_size"))


def block_of(config: Mapping[str, Any], name: str, draft: Draft) -> Mapping[str, Any]:
    """An inner block; empty if it is missing or, which is a problem, not a block."""
    block = config.get(name) or {}
    if isinstance(block, Mapping):
        return block
    draft.refuse(Problem(name, brief(block), "a block is expected"), "left out")
    return {}


def _processes(config: Mapping[str, Any], draft: Draft) -> None:
    machines, processes = config.get("num_machines", 1), config.get("num_processes")
    if machines != 1:
        reason = "several machines are not imported: launcher.nodes, launcher.node_rank, launcher.master_addr"
        draft.refuse(Problem("num_machines", machines, reason, "1"), "left out, together with num_processes")
    elif isinstance(processes, int) and processes > 0:
        draft.put("launcher.nproc_per_node", processes, "num_processes")
    if config.get("use_cpu"):
        draft.put("launcher.device", "cpu", "use_cpu")


def _torch_compile(config: Mapping[str, Any], draft: Draft) -> None:
    dynamo = block_of(config, "dynamo_config", draft)
    backend = str(dynamo.get("dynamo_backend", config.get("dynamo_backend", "NO"))).lower()
    if backend in ("no", "false"):
        return
    draft.put("train.torch_compile", True, "dynamo_backend")
    draft.put("train.torch_compile_backend", backend, "dynamo_backend")
    for name, value in dynamo.items():
        if name == "dynamo_mode":
            draft.put("train.torch_compile_mode", value, "dynamo_config.dynamo_mode")
        elif name != "dynamo_backend" and value:
            problem = Problem(f"dynamo_config.{name}", value, "transformers' Trainer does not support it")
            draft.refuse(problem, "left out")


def zero_json(plugin: Mapping[str, Any], draft: Draft) -> dict[str, Any]:
    """The JSON that accelerate builds from a deepspeed_config without deepspeed_config_file."""
    config: dict[str, Any] = {
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "zero_optimization": {"stage": 2},
    }
    for name, value in plugin.items():
        if name not in PLUGIN:
            other_plugin_key(name, value, draft)
        elif value is not None and not (value == "none" and name.endswith("path")):
            set_at(config, PLUGIN[name], value)
    return config


def other_plugin_key(name: str, value: Any, draft: Draft) -> None:
    """Reads a key of deepspeed_config that has no counterpart in the JSON."""
    key = f"deepspeed_config.{name}"
    if name in PLUGIN_LEFT_OUT:
        if value not in USUAL_IN_PLUGIN:
            draft.note(key, value, f"left out: {PLUGIN_LEFT_OUT[name]}")
    elif name in ("deepspeed_moe_layer_cls_names", "transformer_moe_cls_names"):
        names = [part.strip() for part in str(value).split(",")]
        draft.put("stage.leaf_module.classes", names, key)
    else:
        known = frozenset(f"deepspeed_config.{each}" for each in (*PLUGIN, *PLUGIN_LEFT_OUT))
        _unknown_key(key, value, known, draft)


def _unknown_key(key: str, value: Any, known: frozenset[str], draft: Draft) -> None:
    reason = "unknown key, which accelerate refuses"
    draft.refuse(Problem(key, brief(value), reason, fix=" or ".join(nearest(key, known))), "left out")
