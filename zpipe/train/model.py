"""Loads the model, or creates it from a configuration with random weights.

Weights are created in the training dtype. DeepSpeed casts the model's parameters before it copies its fp32
master weights from them (at stage 3, zero.Init creates them in that dtype). Loading in fp32 would give the
same master weights and take twice the memory.
"""

import copy
from typing import Any

import torch

from zpipe.data.machine_errors import reraise_machine_error
from zpipe.plan.plan import Plan
from zpipe.problems import Problem, Refusal
from zpipe.train.refusals import hub_message
from zpipe.train.tokens import expand_home


def load_model(plan: Plan, tokenizer: Any, device: torch.device) -> Any:
    """The plan's causal language model, already partitioned at stage 3.

    A TrainingArguments object with the DeepSpeed configuration must exist, or transformers does not
    partition. Raises Refusal if the model cannot be loaded or does not match the tokenizer.
    """
    model = _random(plan, device) if plan.model.random_init else _pretrained(plan)
    _check_vocabulary(model, tokenizer, plan)
    if plan.experiment.activation_checkpointing.enabled:
        _checkpoint_through_deepspeed(model, plan.ds_config)
    if plan.experiment.train.gradient_checkpointing or plan.experiment.activation_checkpointing.enabled:
        model.config.use_cache = False
    return model


def _checkpoint_through_deepspeed(model: Any, ds_config: dict[str, Any]) -> None:
    """Makes transformers' checkpointed layers call DeepSpeed's checkpoint function instead of PyTorch's.

    DeepSpeed's block `activation_checkpointing` only affects deepspeed.checkpointing, which transformers does
    not call otherwise (transformers/modeling_layers.py, GradientCheckpointingLayer).
    """
    import deepspeed

    deepspeed.checkpointing.configure(None, deepspeed_config=copy.deepcopy(ds_config))
    # transformers 5.23 renamed the method and warns about the old name, the only one in 5.17.
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
            expand_home(name),
            dtype=training_dtype(plan),
            trust_remote_code=plan.experiment.model.trust_remote_code,
            **_attention(plan),
        )
    except (OSError, ValueError) as error:
        reraise_machine_error(error)
        raise Refusal(
            [
                Problem(
                    key="model.name_or_path",
                    value=name,
                    reason=f"cannot load a model from it: {hub_message(error)}",
                    allowed="a local folder with config.json and weights, or the hub id of a model",
                    fix="model.name_or_path=/path/to/folder",
                )
            ]
        ) from error


def _random(plan: Plan, device: torch.device) -> Any:
    """A model with random weights: equal for equal train.seed, at every stage and world size."""
    from transformers import AutoConfig, AutoModelForCausalLM, set_seed
    from transformers.initialization import no_init_weights
    from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

    settings = dict(plan.model.config)
    config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    options = {"dtype": training_dtype(plan), **_attention(plan)}
    set_seed(plan.experiment.train.seed)
    if is_deepspeed_zero3_enabled():
        return AutoModelForCausalLM.from_config(config, **options)
    # Matches transformers at stage 3: initialize on the training device, and draw no random numbers
    # earlier. All stages then get the same weights.
    with device, no_init_weights():
        model = AutoModelForCausalLM.from_config(config, **options)
    model.initialize_weights()
    model.tie_weights()
    return model


def _attention(plan: Plan) -> dict[str, str]:
    chosen = plan.experiment.model.attn_implementation
    return {"attn_implementation": chosen} if chosen else {}


def _check_vocabulary(model: Any, tokenizer: Any, plan: Plan) -> None:
    """Refuses a tokenizer with more ids than the embedding: on CUDA they cause an illegal memory access."""
    rows = model.config.get_text_config().vocab_size
    if len(tokenizer) <= rows:
        return
    fix = f"model.config.vocab_size={len(tokenizer)}" if plan.model.random_init else "model.tokenizer=null"
    raise Refusal(
        [
            Problem(
                key="model.config.vocab_size" if plan.model.random_init else "model.tokenizer",
                value=rows if plan.model.random_init else plan.model.tokenizer,
                reason=f"the tokenizer has {len(tokenizer)} ids, but the model has only {rows}",
                allowed=f"at least {len(tokenizer)} ids",
                fix=fix,
            )
        ]
    )
