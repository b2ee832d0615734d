"""Facts about a model before it is loaded, from its configuration and the headers of its weight files."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeGuard

from zpipe.facts.weights import Shapes, model_problem, read_json, shape_problem, weight_shapes, without_config
from zpipe.plans.plan import ModelFacts
from zpipe.problems import Problem, Refusal, either, refuse_if_any
from zpipe.schema.model import Model

BYTES_TOKENIZER = "bytes"
DENSE_DECODERS = frozenset({"llama", "mistral", "qwen2", "qwen3"})
"""Model types whose parameter sizes `_dense_decoder` computes from the configuration."""
SHAPE_KEYS = frozenset(
    {"hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size"}
)
"""Keys that the computation needs. The defaults of missing ones are known to transformers only."""
MAX_SIZE = 2**31 - 1
LARGEST_SIZE = {"num_hidden_layers": 10_000}
"""More layers than any model has: a list of their parameters would not fit in memory."""
EXAMPLES = {
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 32,
    "vocab_size": 1024,
    "max_position_embeddings": 2048,
    "n_embd": 128,
    "n_positions": 2048,
}
"""Sizes that are read here, each with a valid value."""
MAY_BE_NULL = frozenset({"num_key_value_heads", "head_dim", "max_position_embeddings"})
KEY_VALUE_HEADS = {"mistral": 8, "qwen2": 32, "qwen3": 32}
HEAD_DIM = {"qwen3": 128}
"""transformers' defaults that are not derived from the number of heads (configuration_*.py)."""


def inspect_model(model: Model) -> tuple[ModelFacts, list[int] | None]:
    """The model, and the elements of each of its parameter tensors: None if it cannot be inspected yet.

    Raises Refusal if a local folder is not a model folder, or its weights are not those of the model.
    """
    if model.name_or_path is None:
        name = f"{model.config.get('model_type')} architecture"
        refuse_if_any(_bad_sizes(model.config, None))
        return _facts(name, True, model.config, model.tokenizer or BYTES_TOKENIZER, None)
    folder = local_folder(model.name_or_path)
    config = _read_config(folder) if folder else {}
    return _facts(model.name_or_path, False, config, model.tokenizer or model.name_or_path, folder)


def parameter_numels(config: Mapping[str, Any], folder: Path | None) -> list[int] | None:
    """Elements of each parameter tensor, tied weights once; None if the model cannot be inspected.

    Raises Refusal if the weights in the folder are damaged, or not those of the model.
    """
    shapes = _check_weights(folder, config) if folder else None
    if _is_dense(config):
        return _dense_decoder(config)
    return [math.prod(shape) for shape in shapes.values()] if shapes else None


def _is_dense(config: Mapping[str, Any]) -> bool:
    sizes = all(is_size(config.get(name)) for name in SHAPE_KEYS)
    return str(config.get("model_type")) in DENSE_DECODERS and sizes


def local_folder(name_or_path: str) -> Path | None:
    """The folder of a local model or of a hub model in the cache; None if the hub model is not cached.

    Raises Refusal if the name is neither an existing model folder nor a valid hub id.
    """
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        if (path / "config.json").is_file():
            return path.resolve()
        raise Refusal([model_problem(name_or_path, without_config(path))])
    if path.exists() or name_or_path.startswith(("/", ".", "~")):
        raise Refusal([model_problem(name_or_path, "no such folder")])
    return _cached_snapshot(name_or_path)


def _facts(
    name: str, random_init: bool, config: dict[str, Any], tokenizer: str, folder: Path | None
) -> tuple[ModelFacts, list[int] | None]:
    numels = parameter_numels(config, folder)
    facts = ModelFacts(
        name=name,
        random_init=random_init,
        config=config,
        tokenizer=tokenizer,
        hidden_size=_hidden_size(config),
        parameters=sum(numels) if numels else None,
    )
    return facts, numels


def _bad_sizes(config: Mapping[str, Any], folder: Path | None) -> Iterator[Problem]:
    """Sizes that are not whole numbers above 0. Some may be null."""
    dense = str(config.get("model_type")) in DENSE_DECODERS
    read = EXAMPLES if dense else {"hidden_size", "max_position_embeddings", "n_embd", "n_positions"}
    for name in EXAMPLES:
        value = config.get(name)
        if name not in read or name not in config:
            continue
        if is_size(value) and value <= LARGEST_SIZE.get(name, MAX_SIZE):
            continue
        if value is None and name in MAY_BE_NULL:
            continue
        largest = LARGEST_SIZE.get(name, MAX_SIZE)
        reason = f"must be a whole number from 1 to {largest:,}"
        if folder is not None:
            yield model_problem(str(folder), f"in config.json, {name} is {json.dumps(value)}: {reason}")
        else:
            key = f"model.config.{name}"
            yield Problem(key, value, reason, f"1 to {largest}", either(f"{key}={_example(name, config)}"))


def _example(name: str, config: Mapping[str, Any]) -> int:
    """A valid value that goes with the other sizes."""
    heads = config.get("num_attention_heads")
    return heads * EXAMPLES["head_dim"] if name == "hidden_size" and is_size(heads) else EXAMPLES[name]


def is_size(value: object) -> TypeGuard[int]:
    """Whether the value is a whole number above 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _hidden_size(config: Mapping[str, Any]) -> int | None:
    """In the same order as transformers (integrations/deepspeed.py, trainer_config_finalize)."""
    inner = config.get("text_config")
    for block in (config, inner if isinstance(inner, Mapping) else {}):
        for name in ("hidden_size", "n_embd"):
            if is_size(block.get(name)):
                return int(block[name])
        sizes = block.get("hidden_sizes")
        if isinstance(sizes, list | tuple) and sizes and all(map(is_size, sizes)):
            return int(max(sizes))
    return None


def _dense_decoder(config: Mapping[str, Any]) -> list[int]:
    hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
    kind, inner = config["model_type"], int(config["intermediate_size"])
    head_dim = int(config.get("head_dim", HEAD_DIM.get(kind)) or hidden // heads)
    key_value_heads = config.get("num_key_value_heads", KEY_VALUE_HEADS.get(kind)) or heads
    query, key_value = heads * head_dim, int(key_value_heads) * head_dim
    feed_forward = hidden * inner
    block = [hidden * query, hidden * key_value, hidden * key_value, query * hidden]
    block += [feed_forward] * 3 + [hidden] * 2
    biased = kind in ("llama", "qwen3") and bool(config.get("attention_bias"))
    if kind == "qwen2" or biased:
        block += [query, key_value, key_value]
    if biased:
        block += [hidden]
    if kind == "llama" and config.get("mlp_bias"):
        block += [inner, inner, hidden]
    if kind == "qwen3":
        block += [head_dim] * 2
    embedding = int(config["vocab_size"]) * hidden
    heads_of_model = [] if config.get("tie_word_embeddings") else [embedding]
    return [embedding, *(block * int(config["num_hidden_layers"])), hidden, *heads_of_model]


def _check_weights(folder: Path, config: Mapping[str, Any]) -> Shapes | None:
    """The shapes of the weights. Raises Refusal if they are not those of the model."""
    shapes = weight_shapes(folder)
    if shapes is not None:
        problem = shape_problem(folder, shapes, _known_shapes(config))
        refuse_if_any([problem] if problem is not None else [])
    return shapes


def _known_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Weights that every model of a common type has: embedding, norms and feed-forward projections."""
    if not _is_dense(config):
        return {}
    hidden, inner = int(config["hidden_size"]), int(config["intermediate_size"])
    shapes = {
        "model.embed_tokens.weight": (int(config["vocab_size"]), hidden),
        "model.norm.weight": (hidden,),
    }
    for layer in range(int(config["num_hidden_layers"])):
        block = f"model.layers.{layer}"
        shapes[f"{block}.input_layernorm.weight"] = (hidden,)
        shapes[f"{block}.mlp.gate_proj.weight"] = (inner, hidden)
        shapes[f"{block}.mlp.down_proj.weight"] = (hidden, inner)
    return shapes


def _read_config(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = read_json(folder / "config.json")
    refuse_if_any(_bad_sizes(config, folder))
    return config


def _cached_snapshot(repository: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache  # slow to import, and only hub ids need it
    from huggingface_hub.errors import HFValidationError

    try:
        config = try_to_load_from_cache(repository, "config.json")
    except HFValidationError:
        raise Refusal([model_problem(repository, "neither a folder nor a valid hub id")]) from None
    return Path(config).parent if isinstance(config, str) else None
