"""The size of a checkpoint before there is one, from what DeepSpeed and transformers write into it.

The weights for from_pretrained; DeepSpeed's copy of them, except at stage 3; master weights and optimizer
states in fp32 (deepspeed/runtime/engine.py: _save_checkpoint, _save_zero_checkpoint).
"""

from zpipe.facts.facts import Facts
from zpipe.memory.optimizer_states import states_per_parameter
from zpipe.schema.experiment import Experiment

_MASTER_BYTES = 4
_FIXED_BYTES = 60_000
"""DeepSpeed's scripts, configuration and tokenizer."""
_BYTES_PER_RANK = 16_000
"""Random states."""
_BYTES_PER_TENSOR = 600
"""Names and shapes, in each file that has the tensor."""


def checkpoint_bytes(experiment: Experiment, facts: Facts) -> int | None:
    """Bytes of one checkpoint of all ranks; None if model or optimizer are of an unknown size.

    If each node has its own part, these are the bytes on node 0, which has the weights too.
    """
    elements, tensors = facts.model.parameters, len(facts.parameter_numels or ())
    if elements is None:
        return None
    weights = elements * (4 if facts.parameter_dtype == "fp32" else 2)
    fixed = _FIXED_BYTES + _BYTES_PER_TENSOR * tensors
    if experiment.checkpoint.save_only_model:
        return weights + fixed
    states = state_bytes_per_element(experiment, facts)
    if states is None or facts.data_parallel_size < facts.world_size:
        return None
    copies = 1 if experiment.stage.stage == 3 else 2
    shards = facts.world_size if experiment.stage.stage == 3 else 1
    fixed += _BYTES_PER_RANK * facts.world_size + 2 * _BYTES_PER_TENSOR * tensors * shards
    parts = facts.nodes if experiment.checkpoint.node_local and experiment.stage.stage else 1
    return copies * weights + states * elements // parts + fixed


def state_bytes_per_element(experiment: Experiment, facts: Facts) -> int | None:
    """Of master weights and optimizer states. Without ZeRO, fp32 parameters are their own master weights."""
    states = states_per_parameter(experiment.optimizer)
    precision = experiment.precision
    halved = precision.bf16.bf16_master_weights_and_grads or precision.fp16.fp16_master_weights_and_grads
    if states is None or halved:
        return None
    has_master = experiment.stage.stage > 0 or facts.parameter_dtype != "fp32"
    return _MASTER_BYTES * (states + has_master)
