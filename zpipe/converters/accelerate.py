"""An accelerate configuration with distributed_type: DEEPSPEED.

Upstream: accelerate/commands/config/config_args.py (ClusterConfig), accelerate/utils/dataclasses.py
(DeepSpeedPlugin, which makes the JSON that `zero_json` makes here).
"""

from collections.abc import Mapping
from typing import Any

from zpipe.converters.result import Found, brief
from zpipe.problems import Problem, nearest
from zpipe.trees import set_at

MARKS = frozenset({"distributed_type", "compute_environment", "deepspeed_config"})
"""Keys by which such a file is recognised."""

LAUNCH = "the launcher decides it"
LEFT_OUT: dict[str, str] = {
    "compute_environment": LAUNCH,
    "machine_rank": LAUNCH,
    "main_process_ip": LAUNCH,
    "main_process_port": LAUNCH,
    "main_training_function": LAUNCH,
    "rdzv_backend": LAUNCH,
    "same_network": LAUNCH,
    "enable_cpu_affinity": LAUNCH,
    "debug": "set TORCH_DISTRIBUTED_DEBUG through launcher.env",
    "gpu_ids": "CUDA_VISIBLE_DEVICES decides which GPUs are used",
}
ELSEWHERE: dict[str, str] = {
    "fp8_config": "zpipe has no fp8",
    "fsdp_config": "zpipe runs DeepSpeed ZeRO",
    "megatron_lm_config": "zpipe runs DeepSpeed ZeRO",
    "mpirun_config": "zpipe starts its workers through torchrun",
    "parallelism_config": "zpipe compiles it",
    **dict.fromkeys(
        ("tpu_name", "tpu_zone", "tpu_use_cluster", "tpu_use_sudo", "tpu_vm", "tpu_env", "downcast_bf16"),
        "for TPUs",
    ),
    **dict.fromkeys(("command_file", "commands"), "for TPU pods"),
}
CARRIED = ("distributed_type", "deepspeed_config", "num_processes", "num_machines", "mixed_precision")
FURTHER = ("use_cpu", "dynamo_config", "dynamo_backend")

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
"""Keys of deepspeed_config, and those of the JSON that accelerate makes of them."""

PLUGIN_LEFT_OUT: dict[str, str] = {
    "zero3_init_flag": "transformers loads models partitioned at stage 3 in any case",
    "deepspeed_multinode_launcher": LAUNCH,
    "deepspeed_hostfile": LAUNCH,
    "deepspeed_exclusion_filter": LAUNCH,
    "deepspeed_inclusion_filter": LAUNCH,
}


def read_accelerate(config: Mapping[str, Any], found: Found) -> None:
    """Everything but deepspeed_config, which `zero_json` and deepspeed_config_file are for."""
    kind = config.get("distributed_type")
    if kind != "DEEPSPEED":
        reason = "zpipe runs DeepSpeed, and this configuration does not"
        found.refuse(Problem("distributed_type", kind, reason, "DEEPSPEED", "distributed_type: DEEPSPEED"))
    for name, value in config.items():
        if name in LEFT_OUT and value not in (None, False, "all"):
            found.note(name, value, f"left out: {LEFT_OUT[name]}")
        elif name in ELSEWHERE and value not in (None, False, "no", {}, []):
            found.refuse(Problem(name, brief(value), ELSEWHERE[name]), "left out")
        elif name not in {*LEFT_OUT, *ELSEWHERE, *CARRIED, *FURTHER}:
            _stranger(name, value, {*LEFT_OUT, *ELSEWHERE, *CARRIED, *FURTHER}, found)
    _processes(config, found)
    _compilation(config, found)
    precision = str(config.get("mixed_precision") or "no").lower()
    if precision in ("fp16", "bf16"):
        found.formats[f"argument.{precision}"] = True
    elif precision not in ("no", "false"):
        found.refuse(Problem("mixed_precision", precision, "zpipe has no such precision", "no, fp16, bf16"))


def block_of(config: Mapping[str, Any], name: str, found: Found) -> Mapping[str, Any]:
    """An inner block; empty if it is not there, or is something else, which is then a problem."""
    block = config.get(name) or {}
    if isinstance(block, Mapping):
        return block
    found.refuse(Problem(name, brief(block), "a block is expected"), "left out")
    return {}


def _processes(config: Mapping[str, Any], found: Found) -> None:
    machines, processes = config.get("num_machines", 1), config.get("num_processes")
    if machines != 1:
        reason = "zpipe starts the workers of one machine"
        found.refuse(Problem("num_machines", machines, reason, "1"), "left out, and num_processes with it")
    elif isinstance(processes, int) and processes > 0:
        found.put("launcher.nproc_per_node", processes, "num_processes")
    if config.get("use_cpu"):
        found.put("launcher.device", "cpu", "use_cpu")


def _compilation(config: Mapping[str, Any], found: Found) -> None:
    dynamo = block_of(config, "dynamo_config", found)
    backend = str(dynamo.get("dynamo_backend", config.get("dynamo_backend", "NO"))).lower()
    if backend in ("no", "false"):
        return
    found.put("train.torch_compile", True, "dynamo_backend")
    found.put("train.torch_compile_backend", backend, "dynamo_backend")
    for name, value in dynamo.items():
        if name == "dynamo_mode":
            found.put("train.torch_compile_mode", value, "dynamo_config.dynamo_mode")
        elif name != "dynamo_backend" and value:
            problem = Problem(f"dynamo_config.{name}", value, "transformers' Trainer does not offer it")
            found.refuse(problem, "left out")


def zero_json(plugin: Mapping[str, Any], found: Found) -> dict[str, Any]:
    """The JSON that accelerate makes of deepspeed_config when it names no file."""
    config: dict[str, Any] = {
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "zero_optimization": {"stage": 2},
    }
    for name, value in plugin.items():
        if name in PLUGIN:
            if value is not None and not (value == "none" and name.endswith("path")):
                set_at(config, PLUGIN[name], value)
        else:
            plugin_stranger(name, value, found)
    return config


def plugin_stranger(name: str, value: Any, found: Found) -> None:
    """A key of deepspeed_config that does not become one of the JSON."""
    key = f"deepspeed_config.{name}"
    if name in PLUGIN_LEFT_OUT:
        found.note(key, value, f"left out: {PLUGIN_LEFT_OUT[name]}")
    elif name in ("deepspeed_moe_layer_cls_names", "transformer_moe_cls_names"):
        names = [part.strip() for part in str(value).split(",")]
        found.put("stage.leaf_module.classes", names, key)
    else:
        _stranger(key, value, {f"deepspeed_config.{each}" for each in {*PLUGIN, *PLUGIN_LEFT_OUT}}, found)


def _stranger(key: str, value: Any, known: set[str], found: Found) -> None:
    reason = "accelerate has no such key, and refuses it"
    found.refuse(Problem(key, brief(value), reason, fix=" or ".join(nearest(key, known))), "left out")
