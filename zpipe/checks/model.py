"""The model: architectures that cannot be trained as set, and keys that transformers ignores or refuses.

The statements about transformers are read from the installed package (zpipe/facts/architecture.py).
"""

import json
from collections.abc import Iterator

from zpipe.checks.model_keys import architecture_of, key_problem
from zpipe.facts.architecture import causal_types, common_fields, known_types
from zpipe.facts.facts import Facts
from zpipe.plans.plan import Notice
from zpipe.problems import Problem, either, nearest, one_edit_apart
from zpipe.schema.experiment import Experiment

ENCODERS = frozenset(
    {
        "bert",
        "bert-generation",
        "big_bird",
        "camembert",
        "data2vec-text",
        "electra",
        "ernie",
        "megatron-bert",
        "rembert",
        "roberta",
        "roberta-prelayernorm",
        "roc_bert",
        "roformer",
        "xlm-roberta",
        "xlm-roberta-xl",
        "xmod",
    }
)
"""Encoders with a causal class: without is_decoder, every token attends to the tokens after it."""

ATTENTION_FLAGS = {
    "sdpa": ("_supports_sdpa",),
    "flash_attention_2": ("_supports_flash_attn", "_supports_flash_attn_2"),
    "flash_attention_3": ("_supports_flash_attn", "_supports_flash_attn_3"),
    "flash_attention_4": ("_supports_flash_attn",),
    "flex_attention": ("_supports_flex_attn",),
}
FREE_NAMES = frozenset(
    {"model_type", "rope_scaling", "rope_theta", "torch_dtype", "dtype", "transformers_version"}
)


def model_is_a_causal_language_model(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """AutoModelForCausalLM loads no other (transformers/models/auto/modeling_auto.py)."""
    kind, config = facts.model.config.get("model_type"), facts.model.config
    if not config or not causal_types() or experiment.model.trust_remote_code:
        return
    if not isinstance(kind, str):
        yield key_problem(experiment, "model_type", kind, "names no architecture", "llama, qwen3, …", "llama")
    elif kind not in known_types():
        code, near = "auto_map" in config, nearest(kind, causal_types())
        reason = (
            "its code is in the model folder, which zpipe does not run" if code else "unknown to transformers"
        )
        fix = "model.trust_remote_code=true" if code else f"model.config.model_type={near[0]}" if near else ""
        yield key_problem(
            experiment, "model_type", kind, reason, " or ".join(near) or "a type of transformers", "", fix
        )
    elif kind not in causal_types():
        reason = "transformers has no causal language model of this type"
        yield key_problem(experiment, "model_type", kind, reason, "a decoder such as llama or qwen3", "llama")


def encoders_are_made_decoders(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """transformers only logs a warning (modeling_bert.py: "If you want to use … as a standalone")."""
    config = facts.model.config
    if str(config.get("model_type")) in ENCODERS and not config.get("is_decoder"):
        reason = "an encoder: every token would attend to the tokens that it should predict"
        if facts.model.random_init:
            key = "model.config.is_decoder"
            yield Problem(key, config.get("is_decoder", False), reason, "true", either(f"{key}=true"))
        else:
            yield key_problem(experiment, "model_type", config["model_type"], reason, "a decoder", "")


def labels_are_shifted(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Without the shift every token is its own label, and the model learns to copy (modeling_bart.py)."""
    kind, known = str(facts.model.config.get("model_type")), architecture_of(facts)
    if known is None or experiment.model.trust_remote_code or kind in ENCODERS or kind not in causal_types():
        return
    if not known.shifts_labels(causal_types()[kind]):
        reason = f"{causal_types()[kind]} of transformers does not shift its labels: it would learn to copy"
        yield key_problem(experiment, "model_type", kind, reason, "a decoder such as llama or qwen3", "llama")


def one_name_for_each_setting(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """An alias wins over the field that it names, in silence (configuration_utils.py, attribute_map)."""
    known, config = architecture_of(facts), facts.model.config
    for alias, target in known.aliases.items() if known is not None else ():
        if alias in config and target in config and config[alias] != config[target]:
            kind = config["model_type"]
            reason = f"another name of {target} in {kind}, and {target}={json.dumps(config[target])}"
            allowed = f"one of {alias} and {target}"
            yield key_problem(experiment, alias, config[alias], reason, allowed, "", f"~model.config.{alias}")


def model_supports_what_is_switched_on(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Raised by transformers when the model is built or training starts (modeling_utils.py)."""
    known, kind = architecture_of(facts), facts.model.config.get("model_type")
    if known is None or experiment.model.trust_remote_code:
        return
    if not known.declares("supports_gradient_checkpointing"):
        reason = f"{kind} does not support activation checkpointing in transformers"
        if experiment.activation_checkpointing.enabled:
            fix = "activation_checkpointing=none"
            yield Problem("activation_checkpointing.enabled", True, reason, "false", either(fix))
        if experiment.train.gradient_checkpointing:
            fix = "train.gradient_checkpointing=false"
            yield Problem("train.gradient_checkpointing", True, reason, "false", either(fix))
    chosen, key = experiment.model.attn_implementation, "model.attn_implementation"
    flags = ATTENTION_FLAGS.get(chosen or "", ())
    if flags and not any(known.declares(flag) for flag in flags):
        able = [name for name, each in ATTENTION_FLAGS.items() if any(map(known.declares, each))]
        reason = f"{kind} has no such attention in transformers"
        yield Problem(key, chosen, reason, ", ".join(["null", "eager", *able]), either(f"{key}=null"))


def weights_are_not_quantized(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Integer weights have no gradients; only adapters beside them could be trained."""
    given = facts.model.config.get("quantization_config")
    if given:
        method = given.get("quant_method", "unknown") if isinstance(given, dict) else "unknown"
        reason = f"the weights are quantized ({method}), and quantized weights cannot be trained in full"
        yield key_problem(experiment, "quantization_config", method, reason, "the original weights", "")


def configuration_keys_are_known(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """transformers keeps unknown keys as attributes and does nothing with them."""
    for name, near in _unknown_keys(facts):
        typed = [each for each in near if one_edit_apart(name, each)]
        if typed and typed[0] not in facts.model.config:
            key, value = f"model.config.{name}", facts.model.config[name]
            fix = either(f"~{key} +model.config.{typed[0]}={json.dumps(value)}")
            yield Problem(key, value, "transformers does not know this key", typed[0], fix)


def warn_about_unknown_configuration_keys(experiment: Experiment, facts: Facts) -> Iterator[Notice]:
    for name, near in _unknown_keys(facts):
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        text = f"{facts.model.config['model_type']} has no such key in transformers, which ignores it{hint}"
        yield Notice(level="warning", key=f"model.config.{name}", text=text)


def _unknown_keys(facts: Facts) -> Iterator[tuple[str, list[str]]]:
    known = architecture_of(facts)
    if known is None or not facts.model.random_init:
        return
    names = {*known.fields, *common_fields(), *FREE_NAMES}
    for name in facts.model.config:
        if name not in names and not name.startswith("_") and not known.reads(name):
            yield name, nearest(name, names)


ERRORS = (
    model_is_a_causal_language_model,
    encoders_are_made_decoders,
    labels_are_shifted,
    one_name_for_each_setting,
    model_supports_what_is_switched_on,
    weights_are_not_quantized,
    configuration_keys_are_known,
)
NOTICES = (warn_about_unknown_configuration_keys,)
