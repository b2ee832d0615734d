"""Compiles the DeepSpeed JSON of an Experiment, block by block, in DeepSpeed's names.

A key whose value is null is not written, so that DeepSpeed's default applies. Where transformers fills `auto`
from the model or from TrainingArguments, the value is computed here: by the same formula
(transformers/integrations/deepspeed.py), or larger where the GPU has room. A value that is not known yet
stays `auto`, with a reason.
"""

from typing import Any

from zpipe.compile.optimizing import optimizer_block, scheduler_block
from zpipe.compile.swap import bound_persistence, resolve_for_swapping
from zpipe.facts.facts import Facts
from zpipe.memory.zero_sizes import HIDDEN_SIZE_FORMULAS, automatic_size
from zpipe.schema.base import Group
from zpipe.schema.experiment import Experiment
from zpipe.trees import leaves, without_empty

Json = dict[str, Any]

CHECKPOINT_KEYS = ("tag_validation", "load_universal", "checkpoint_serialization", "parallel_write", "writer")


def ds_config(experiment: Experiment, facts: Facts, swap_dir: str | None) -> Json:
    """The complete JSON. `swap_dir` is the folder for this run's swap files, None without NVMe offload."""
    config: Json = {**_batch(experiment, facts), **_precision(experiment, facts)}
    config["zero_optimization"] = _zero(experiment, facts, swap_dir)
    config.update(optimizer_block(experiment, facts))
    config.update(scheduler_block(experiment, facts))
    config.update(given(experiment.deepspeed))
    config.update(given(experiment.profiler))
    blocks = {
        "aio": given(experiment.offload.aio) if swap_dir is not None else {},
        "checkpoint": _checkpoint(experiment),
        "activation_checkpointing": given(experiment.activation_checkpointing, "enabled"),
        "compile": given(experiment.compile, "regional"),
    }
    config.update({name: block for name, block in blocks.items() if block})
    return config


def unresolved(config: Json) -> dict[str, str]:
    """The dotted keys that stayed `auto`, each with the reason."""
    reasons = {
        "total_num_steps": "the steps are counted once the data is tokenized; train.max_steps sets them",
        "warmup_num_steps": "a share of the steps, which are counted once the data is tokenized",
    }
    hidden = "the model's hidden size cannot be read before the model is downloaded"
    names = ((key, key.rpartition(".")[2]) for key, value in leaves(config) if value == "auto")
    return {key: reasons.get(name, hidden) for key, name in names if name not in AUTO_IN_DEEPSPEED}


AUTO_IN_DEEPSPEED = frozenset(
    {"select_strategy", "select_interval", "update_interval", "keep_in_fp32_modules"}
)
"""Keys for which DeepSpeed itself defines `auto`."""


def given(block: Group, *leave_out: str) -> Json:
    """The keys of a block that are set, without empty inner blocks."""
    return without_empty(block.given(without=leave_out))


def _batch(experiment: Experiment, facts: Facts) -> Json:
    micro = facts.micro_batch
    return {
        # TrainingArguments counts every process, even those that share their sequences under AutoTP.
        "train_batch_size": micro * facts.accumulation * facts.world_size,
        "train_micro_batch_size_per_gpu": micro,
        "gradient_accumulation_steps": facts.accumulation,
        "gradient_clipping": experiment.train.max_grad_norm,
    }


def _precision(experiment: Experiment, facts: Facts) -> Json:
    precision = experiment.precision
    config: Json = {
        "fp16": {"enabled": facts.dtype == "fp16"},
        "bf16": {"enabled": facts.dtype == "bf16"},
    }
    if facts.dtype == "fp16":
        config["fp16"].update(given(precision.fp16))
    if facts.dtype == "bf16":
        config["bf16"].update(given(precision.bf16))
    if precision.communication_data_type is not None:
        config["communication_data_type"] = precision.communication_data_type
    blocks = {"data_types": given(precision.data_types), "torch_autocast": given(precision.torch_autocast)}
    config.update({name: block for name, block in blocks.items() if block})
    return config


def _zero(experiment: Experiment, facts: Facts, swap_dir: str | None) -> Json:
    stage = experiment.stage
    block = given(stage, "leaf_module", "zenflow")
    block.update(_offload(experiment, swap_dir))
    resolve_for_swapping(block, experiment, facts)
    if stage.stage3_allgather_sequential and block.get("stage3_prefetch_bucket_size") == "auto":
        block["stage3_prefetch_bucket_size"] = 1  # as DeepSpeed sets it in this case
    for name in HIDDEN_SIZE_FORMULAS:
        if block.get(name) == "auto" and (found := automatic_size(name, facts)) is not None:
            block[name] = found
    if block.get("zero_hpz_partition_size") == "auto":
        block["zero_hpz_partition_size"] = facts.nproc_per_node
    bound_persistence(block, experiment, facts)
    for name, inner in (("leaf_module", stage.leaf_module), ("zenflow", stage.zenflow)):
        if values := given(inner):
            block[name] = values
    if facts.data_parallel_size < facts.world_size:
        block["stage3_gather_16bit_weights_on_model_save"] = True  # AutoTP reads it at every stage
    return block


def _offload(experiment: Experiment, swap_dir: str | None) -> Json:
    offload = experiment.offload
    blocks: Json = {}
    for name, block in (
        ("offload_optimizer", offload.offload_optimizer),
        ("offload_param", offload.offload_param),
    ):
        if block.device == "none":
            continue
        values = given(block)
        if "pin_memory" not in values and offload.pin_memory is not None:
            values["pin_memory"] = offload.pin_memory
        if block.device == "nvme":
            values["nvme_path"] = swap_dir
        blocks[name] = values
    return blocks


def _checkpoint(experiment: Experiment) -> Json:
    everything = given(experiment.checkpoint)
    block = {name: everything[name] for name in CHECKPOINT_KEYS if name in everything}
    if experiment.checkpoint.node_local:
        block["use_node_local_storage"] = True
    return block
