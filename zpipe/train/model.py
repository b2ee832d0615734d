"""Loads the model, or creates it from a configuration with random weights.

Weights are created in the training dtype. DeepSpeed casts the model's parameters before it copies its fp32
master weights from them (at stage 3, zero.Init creates them in that dtype). Loading in fp32 would give the
same master weights and take twice the memory.
"""

import copy
from collections.abc import Callable
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError

from zpipe.data.machine_errors import reraise_machine_error
from zpipe.facts.weights import and_others, listed, shape_text
from zpipe.plans.plan import Plan
from zpipe.problems import Problem, Refusal
from zpipe.train.refusals import hub_message, one_line
from zpipe.train.tokens import expand_home

Notice = Callable[[str], None]


def load_model(plan: Plan, tokenizer: Any, device: torch.device, notice: Notice) -> Any:
    """The plan's causal language model, already partitioned at stage 3. `notice` receives warnings.

    A TrainingArguments object with the DeepSpeed configuration must exist, or transformers does not
    partition. Raises Refusal if the model cannot be loaded or does not match the tokenizer.
    """
    model = _random(plan, device) if plan.model.random_init else _pretrained(plan, notice)
    _check_vocabulary(model, tokenizer, plan)
    _make_savable(model, notice)
    if plan.experiment.activation_checkpointing.enabled:
        _checkpoint_through_deepspeed(model, plan.ds_config)
    if plan.experiment.train.gradient_checkpointing or plan.experiment.activation_checkpointing.enabled:
        model.config.use_cache = False
    return model


def _make_savable(model: Any, notice: Notice) -> None:
    """Lets generation sample if its settings only make sense then: transformers would not save them."""
    settings = getattr(model, "generation_config", None)
    if settings is None:
        return
    try:
        settings.validate(strict=True)
    except ValueError as error:
        settings.do_sample = True
        notice(f"generation_config.json: do_sample is set to true: {one_line(error)}")


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


def _pretrained(plan: Plan, notice: Notice) -> Any:
    from transformers import AutoModelForCausalLM

    name = plan.experiment.model.name_or_path or plan.model.name
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            expand_home(name),
            dtype=training_dtype(plan),
            trust_remote_code=plan.experiment.model.trust_remote_code,
            output_loading_info=True,
            # The report then names the tensors; they are refused below.
            ignore_mismatched_sizes=True,
            **_attention(plan),
        )
    except (OSError, ValueError, RuntimeError, UnpicklingError, SafetensorError, ImportError) as error:
        reraise_machine_error(error)
        raise Refusal([_unloadable(name, hub_message(error))]) from error
    _check_report(name, report, notice)
    return model


def _unloadable(name: str, reason: str) -> Problem:
    allowed = "a local folder with config.json and weights, or the hub id of a model"
    return Problem("model.name_or_path", name, f"cannot load a model from it: {reason}", allowed)


def _check_report(name: str, report: dict[str, Any], notice: Notice) -> None:
    """Refuses weights that would start at random; names those of the files that the model does not have."""
    missing, unexpected = sorted(report["missing_keys"]), sorted(report["unexpected_keys"])
    mismatched = sorted(report["mismatched_keys"])
    if mismatched:
        tensor, in_file, in_model = mismatched[0]
        shapes = f"{tensor} is {shape_text(in_file)} in the file, {shape_text(in_model)} by config.json"
        raise Refusal([_unloadable(name, f"{shapes}{and_others(len(mismatched) - 1)}")])
    if missing:
        lacks = f"the weights lack {listed(missing)}, which would start at random"
        has = f"; the model does not have {listed(unexpected)} of the files" if unexpected else ""
        raise Refusal([_unloadable(name, lacks + has)])
    if unexpected:
        notice(f"the model does not have these weights of the files, which are ignored: {listed(unexpected)}")


def _random(plan: Plan, device: torch.device) -> Any:
    """A model with random weights: equal for equal train.seed, at every stage and world size."""
    from transformers import AutoConfig, AutoModelForCausalLM, set_seed
    from transformers.initialization import no_init_weights
    from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

    settings, options = dict(plan.model.config), {"dtype": training_dtype(plan), **_attention(plan)}
    set_seed(plan.experiment.train.seed)
    try:
        config = AutoConfig.for_model(settings.pop("model_type"), **settings)
        if is_deepspeed_zero3_enabled():
            return AutoModelForCausalLM.from_config(config, **options)
        # Matches transformers at stage 3: initialize on the training device, and draw no random numbers
        # earlier. All stages then get the same weights.
        with device, no_init_weights():
            model = AutoModelForCausalLM.from_config(config, **options)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # Each architecture checks its settings in its own way, or not at all.
        reraise_machine_error(error)
        reason = f"transformers cannot build a model from it: {one_line(error)}"
        raise Refusal([Problem("model.config", plan.model.config["model_type"], reason)]) from error
    model.initialize_weights()
    model.tie_weights()
    return model


def _attention(plan: Plan) -> dict[str, str]:
    chosen = plan.experiment.model.attn_implementation
    return {"attn_implementation": chosen} if chosen else {}


def _check_vocabulary(model: Any, tokenizer: Any, plan: Plan) -> None:
    """Refuses a tokenizer with ids beyond the embedding: on CUDA they cause an illegal memory access."""
    rows, largest = model.config.get_text_config().vocab_size, max(tokenizer.get_vocab().values(), default=-1)
    if largest < rows:
        return
    reason = f"the largest id of the tokenizer is {largest}, but the model has only {rows} ids"
    allowed = f"at least {largest + 1} ids"
    key = "model.config.vocab_size"
    if plan.model.random_init:
        raise Refusal([Problem(key, rows, reason, allowed, f"{key}={largest + 1}")])
    own = plan.experiment.model.tokenizer is None
    fix = (
        "model.tokenizer=FOLDER of the tokenizer that belongs to the model" if own else "model.tokenizer=null"
    )
    raise Refusal([Problem("model.tokenizer", plan.model.tokenizer, reason, allowed, fix)])
