"""Values of a model's configuration with which transformers cannot build the model, or fails in a step.

The statements about transformers are read from the installed package (zpipe/facts/architecture.py).
"""

import re
from collections.abc import Iterator

from zpipe.checks.model_keys import architecture_of, key_problem
from zpipe.facts.architecture import activations
from zpipe.facts.decoder import is_size
from zpipe.facts.facts import Facts
from zpipe.facts.model_types import DEFAULTS
from zpipe.problems import Problem, nearest
from zpipe.schema.experiment import Experiment

ACTIVATIONS = ("hidden_act", "hidden_activation", "activation_function")
DROPOUTS = ("attention_dropout", "hidden_dropout", "attn_pdrop", "embd_pdrop", "resid_pdrop")
TYPES: dict[str, tuple[type, str]] = {
    "int": (int, "a whole number"),
    "float": (float, "a number with a decimal point"),
    "bool": (bool, "true or false"),
    "str": (str, "text"),
    "None": (type(None), "null"),
    "list": (list, "a list"),
    "tuple": (list, "a list"),
    "dict": (dict, "a mapping"),
    "RopeParameters": (dict, "a mapping"),
    "PreTrainedConfig": (dict, "a mapping"),
}
"""Of JSON, by the names that transformers gives to the types of its fields."""
LARGEST = 2**53
"""Whole numbers below it are proposed as floats."""
_INSIDE = re.compile(r"\[.*\]")


def values_have_the_types_of_their_fields(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """A configuration of transformers is a strict data class: it takes 1.0 for a float, and not 1."""
    config, known = facts.model.config, architecture_of(facts)
    for name, text in known.types.items() if known is not None else ():
        names = [each.strip() for each in _INSIDE.sub("", text).split("|")]
        if name not in config or not all(each in TYPES for each in names):
            continue
        value, kinds = config[name], {TYPES[each][0] for each in names}
        if type(value) not in kinds:
            allowed = " or ".join(dict.fromkeys(TYPES[each][1] for each in names))
            best = f"{value}.0" if float in kinds and is_size(value) and value < LARGEST else ""
            yield key_problem(experiment, name, value, "transformers takes no such value", allowed, best)


def activation_is_known(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """A name that is missing among them raises KeyError in the worker (activations.py, ACT2FN)."""
    config, known = facts.model.config, architecture_of(facts)
    if known is None or not activations():
        return
    for name in ACTIVATIONS:
        value = config.get(name)
        if not isinstance(value, str) or value in activations() or not known.activates_with(name):
            continue
        near = nearest(value, activations())
        allowed = ", ".join(near or sorted(activations()))
        yield key_problem(
            experiment,
            name,
            value,
            "transformers has no such activation",
            allowed,
            near[0] if near else "silu",
        )


def each_layer_has_a_type(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """transformers compares the numbers when it creates the configuration (validate_layer_type)."""
    config, known = facts.model.config, architecture_of(facts)
    given, layers = config.get("layer_types"), config.get("num_hidden_layers")
    if (
        known is None
        or "layer_types" not in known.fields
        or not isinstance(given, list)
        or not is_size(layers)
    ):
        return
    if len(given) != layers:
        reason = f"has {len(given)} entries for num_hidden_layers={layers}"
        yield key_problem(experiment, "layer_types", given, reason, "one for each layer", "")


def sliding_window_has_tokens(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """Without tokens the masks of attention have another size than its scores."""
    config, kind = facts.model.config, str(facts.model.config.get("model_type"))
    value, default = config.get("sliding_window"), DEFAULTS.get(kind, {}).get("sliding_window")
    needs_one = kind in ("gemma2", "gemma3_text")
    if "sliding_window" not in DEFAULTS.get(kind, {}) or "sliding_window" not in config:
        return
    if (value is None and needs_one) or (isinstance(value, int) and value < 1):
        allowed = "1 or more" if needs_one else "1 or more, or null"
        best = str(default) if default else "null"
        yield key_problem(
            experiment, "sliding_window", value, "a window has at least one token", allowed, best
        )


def dropout_is_a_share(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """torch.nn.functional.dropout refuses other values in the first step."""
    known = architecture_of(facts)
    for name in filter(known.reads, DROPOUTS) if known is not None else ():
        value = facts.model.config.get(name)
        if isinstance(value, int | float) and not 0 <= value <= 1:
            yield key_problem(experiment, name, value, "a probability", "0.0 to 1.0", "0.0")


ERRORS = (
    values_have_the_types_of_their_fields,
    activation_is_known,
    each_layer_has_a_type,
    sliding_window_has_tokens,
    dropout_is_a_share,
)
