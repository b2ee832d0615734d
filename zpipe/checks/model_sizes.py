"""Sizes of a model that do not go with each other: transformers refuses them, or a step fails.

The statements about transformers are read from the installed package (zpipe/facts/architecture.py).
"""

from collections.abc import Iterator

from zpipe.checks.model_keys import architecture_of, key_problem
from zpipe.checks.rotary import hidden_size_of_even_heads
from zpipe.facts.decoder import decoder_of, is_size
from zpipe.facts.facts import Facts
from zpipe.facts.model_types import DEFAULTS, GENERIC_NAMES, NAMES
from zpipe.problems import Problem
from zpipe.schema.experiment import Experiment


def attention_heads_divide(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """transformers refuses it in the worker, or a matrix product fails there."""
    config, known = facts.model.config, architecture_of(facts)
    hidden, heads, groups = (
        config.get(name) for name in ("hidden_size", "num_attention_heads", "num_key_value_heads")
    )
    if not (is_size(hidden) and is_size(heads)):
        return
    computes_heads = config.get("model_type") in DEFAULTS and not config.get("head_dim")
    if known is not None and hidden % heads and (known.checks_heads or computes_heads):
        reason = f"no multiple of num_attention_heads={heads}"
        best = hidden_size_of_even_heads(config, hidden, heads)
        yield key_problem(experiment, "hidden_size", hidden, reason, f"a multiple of {heads}", best)
    if is_size(groups) and heads % groups and "kv_lora_rank" not in config:  # latent attention has no groups
        reason = f"does not divide num_attention_heads={heads}"
        divisors = [str(each) for each in range(1, heads + 1) if heads % each == 0]
        yield key_problem(
            experiment, "num_key_value_heads", groups, reason, ", ".join(divisors), divisors[-1]
        )


def experts_of_a_token_exist(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """torch.topk fails in the first step: "selected index k out of range"."""
    config, decoder = facts.model.config, decoder_of(facts.model.config)
    if decoder is None or not 0 < decoder.experts < decoder.experts_per_token:
        return
    names = NAMES.get(decoder.model_type, GENERIC_NAMES).get("num_experts", ("num_experts",))
    name = next((each for each in names if each in config), names[0])
    reason = f"more than the experts of a layer, {name}={decoder.experts}"
    allowed, key = f"1 to {decoder.experts}", "num_experts_per_tok"
    yield key_problem(experiment, key, decoder.experts_per_token, reason, allowed, str(decoder.experts))


def special_ids_are_in_the_vocabulary(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """torch.nn.Embedding refuses a padding index beyond its rows."""
    config, known = facts.model.config, architecture_of(facts)
    rows = config.get("vocab_size")
    if known is None or not is_size(rows):
        return
    given = config["pad_token_id"] if "pad_token_id" in config else known.default_id("pad_token_id")
    if isinstance(given, int) and given >= rows:
        by_default = "" if "pad_token_id" in config else ", transformers' default,"
        reason = f"the padding id {given}{by_default} is beyond the vocabulary of {rows} ids"
        yield key_problem(experiment, "pad_token_id", given, reason, f"null, or 0 to {rows - 1}", "null")


ERRORS = (
    attention_heads_divide,
    experts_of_a_token_exist,
    special_ids_are_in_the_vocabulary,
)
