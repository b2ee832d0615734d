"""The model: loaded, or made from a configuration with random weights.

Weights are created in the format of the training. DeepSpeed copies its fp32 master weights from the
model's parameters after it has cast them (at stage 3 zero.Init creates them cast), so weights that
were first held in fp32 would end as the same masters, for twice the memory.
"""

import copy
from typing import Any

import torch

from zpipe.plan.plan import Plan
from zpipe.problems import Problem, Refusal
from zpipe.train.machine_errors import raise_if_machine
from zpipe.train.tokens import folder_or_id, hub_error


def load_model(plan: Plan, tokenizer: Any, device: torch.device) -> Any:
    """A causal language model for the plan, at stage 3 already partitioned.

    TrainingArguments with the DeepSpeed configuration must be alive: transformers partitions only
    then. Raises Refusal when the model cannot be had or does not fit the tokenizer.
    """
    model = _random(plan, device) if plan.model.random_init else _pretrained(plan)
    _check_vocabulary(model, tokenizer, plan)
    if plan.experiment.activation_checkpointing.enabled:
        _checkpoint_through_deepspeed(model, plan.ds_config)
    if plan.experiment.train.gradient_checkpointing or plan.experiment.activation_checkpointing.enabled:
        model.config.use_cache = False
    return model


def _checkpoint_through_deepspeed(model: Any, ds_config: dict[str, Any]) -> None:
    """Lets transformers' checkpointed layers call DeepSpeed's checkpoint in the place of PyTorch's.

    DeepSpeed's block `activation_checkpointing` acts in deepspeed.checkpointing alone, which transformers
    never calls by itself (transformers/modeling_layers.py, GradientCheckpointingLayer).
    """
    import deepspeed

    deepspeed.checkpointing.configure(None, deepspeed_config=copy.deepcopy(ds_config))
    # transformers 5.23 renamed the method and warns of the old name; 5.17 knows only that.
    getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()
    for module in model.modules():
        if getattr(module, "gradient_checkpointing", False):
            module._gradient_checkpointing_func = deepspeed.checkpointing.checkpoint


def training_dtype(plan: Plan) -> torch.dtype:
    """The dtype of the model's parameters."""
    return {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[plan.engine.dtype]


def _pretrained(plan: Plan) -> Any:
    from transformers import AutoModelForCausalLM

    name = plan.experiment.model.name_or_path or plan.model.name
    try:
        return AutoModelForCausalLM.from_pretrained(
            folder_or_id(name),
            dtype=training_dtype(plan),
            trust_remote_code=plan.experiment.model.trust_remote_code,
            **_attention(plan),
        )
    except (OSError, ValueError) as error:
        raise_if_machine(error)
        raise Refusal(
            [
                Problem(
                    key="model.name_or_path",
                    value=name,
                    reason=f"no model can be loaded from it: {hub_error(error)}",
                    allowed="a local folder with config.json and weights, or a hub id that can be reached",
                    fix="model.name_or_path=/path/to/folder",
                )
            ]
        ) from error


def _random(plan: Plan, device: torch.device) -> Any:
    """Random weights, the same for one train.seed at every stage and on every number of ranks."""
    from transformers import AutoConfig, AutoModelForCausalLM, set_seed
    from transformers.initialization import no_init_weights
    from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

    settings = dict(plan.model.config)
    config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    options = {"dtype": training_dtype(plan), **_attention(plan)}
    set_seed(plan.experiment.train.seed)
    if is_deepspeed_zero3_enabled():
        return AutoModelForCausalLM.from_config(config, **options)
    # As transformers does it at stage 3: on the training device, and drawing nothing before the
    # weights proper, so that both draw the same numbers.
    with device, no_init_weights():
        model = AutoModelForCausalLM.from_config(config, **options)
    model.initialize_weights()
    model.tie_weights()
    return model


def _attention(plan: Plan) -> dict[str, str]:
    chosen = plan.experiment.model.attn_implementation
    return {"attn_implementation": chosen} if chosen else {}


def _check_vocabulary(model: Any, tokenizer: Any, plan: Plan) -> None:
    """Refuses a tokenizer whose ids the embedding lacks: on CUDA they end in an illegal memory access."""
    rows = model.config.get_text_config().vocab_size
    if len(tokenizer) <= rows:
        return
    fix = f"model.config.vocab_size={len(tokenizer)}" if plan.model.random_init else "model.tokenizer=null"
    raise Refusal(
        [
            Problem(
                key="model.config.vocab_size" if plan.model.random_init else "model.tokenizer",
                value=rows if plan.model.random_init else plan.model.tokenizer,
                reason=f"the tokenizer has {len(tokenizer)} ids, the model only {rows}",
                allowed=f"at least {len(tokenizer)} ids",
                fix=fix,
            )
        ]
    )
