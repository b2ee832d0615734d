"""Facts about a model before it is loaded, from its configuration and the headers of its weight files."""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zpipe.facts.decoder import is_size
from zpipe.facts.model_types import keys_read
from zpipe.facts.shapes import NAMED_AS_IN_FILES, Shapes, has_known_shapes, parameter_shapes
from zpipe.facts.weights import (
    model_problem,
    read_json,
    shape_problem,
    unexpected,
    weight_shapes,
    without_config,
)
from zpipe.paths import expanded
from zpipe.plans.plan import ModelFacts
from zpipe.problems import Problem, Refusal, either, refuse_if_any
from zpipe.schema.model import Model

BYTES_TOKENIZER = "bytes"
MAX_SIZE = 2**31 - 1
LARGEST_SIZE = {"num_hidden_layers": 10_000, "n_layer": 10_000}
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
    "n_layer": 2,
    "n_head": 4,
    "n_inner": 512,
    "n_positions": 2048,
    "num_experts": 8,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 256,
    "shared_expert_intermediate_size": 256,
    "decoder_sparse_step": 1,
}
"""Sizes that are read here, each with a valid value."""
ALWAYS_READ = frozenset({"hidden_size", "max_position_embeddings", "n_embd", "n_positions"})
"""Also of model types that are not known."""
MAY_BE_NULL = frozenset({"num_key_value_heads", "head_dim", "max_position_embeddings", "n_inner"})


@dataclass(frozen=True)
class InspectedModel:
    """What local files tell about a model."""

    facts: ModelFacts
    folder: Path | None
    """The local folder, or that of the hub's cache."""
    parameter_numels: tuple[int, ...] | None
    """Elements of each parameter tensor, tied weights once; None if the model cannot be inspected yet."""
    unexpected: tuple[str, ...]
    """Tensors of the weight files that the model does not have."""
    parameter_shapes: Shapes | None
    """By name; None if the model cannot be inspected yet."""


def inspect_model(model: Model) -> InspectedModel:
    """Raises Refusal if a local folder is not a model folder, or its weights are not those of the model."""
    if model.name_or_path is None:
        _check(model.config, None)
        config, folder, tokenizer = model.config, None, model.tokenizer or BYTES_TOKENIZER
    else:
        folder = local_folder(model.name_or_path)
        config, tokenizer = _read_config(folder) if folder else {}, model.tokenizer or model.name_or_path
    saved = weight_shapes(folder, _is_downloaded(folder, model.name_or_path)) if folder else None
    expected = parameter_shapes(config) if has_known_shapes(config) else None
    in_files = expected if config.get("model_type") in NAMED_AS_IN_FILES else None
    if folder is not None and saved is not None:
        wanted = in_files if "quantization_config" not in config else None
        problem = shape_problem(folder, saved, wanted or {})
        refuse_if_any([problem] if problem is not None else [])
    shapes = expected or saved or None
    numels = tuple(math.prod(shape) for shape in (shapes or {}).values())
    facts = ModelFacts(
        name=model.name_or_path or f"{model.config.get('model_type')} architecture",
        random_init=model.name_or_path is None,
        config=config,
        tokenizer=tokenizer,
        hidden_size=_hidden_size(config),
        parameters=sum(numels) or None,
        largest_module=_largest_module(shapes or {}),
    )
    return InspectedModel(facts, folder, numels or None, unexpected(saved or {}, in_files or {}), shapes)


def _largest_module(shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    """Elements of the parameters of the module that has most of its own; None without parameters."""
    sizes: Counter[str] = Counter()
    for name, shape in shapes.items():
        sizes[name.rpartition(".")[0]] += math.prod(shape)
    return max(sizes.values(), default=None)


def _is_downloaded(folder: Path | None, name: str | None) -> bool:
    """Whether the folder is in the hub's cache, where files may still be missing."""
    return folder is not None and name is not None and folder != expanded(name).resolve()


def local_folder(name_or_path: str) -> Path | None:
    """The folder of a local model or of a hub model in the cache; None if the hub model is not cached.

    Raises Refusal if the name is neither an existing model folder nor a valid hub id.
    """
    path = expanded(name_or_path)
    if path.is_dir():
        if (path / "config.json").is_file():
            return path.resolve()
        raise Refusal([model_problem(name_or_path, without_config(path))])
    if path.exists() or name_or_path.startswith(("/", ".", "~")):
        raise Refusal([model_problem(name_or_path, "no such folder")])
    return _cached_snapshot(name_or_path)


def _check(config: Mapping[str, Any], folder: Path | None) -> None:
    """Raises Refusal for a value that nothing here could read."""
    refuse_if_any([*_bad_type(config, folder), *_bad_sizes(config, folder)])


def _bad_type(config: Mapping[str, Any], folder: Path | None) -> Iterator[Problem]:
    value = config.get("model_type")
    if value is not None and not isinstance(value, str):
        yield _bad_value("model_type", value, folder, "must be text", "llama, qwen3, …", "llama")


def _bad_sizes(config: Mapping[str, Any], folder: Path | None) -> Iterator[Problem]:
    """Sizes that are not whole numbers above 0. Some may be null."""
    read = {*ALWAYS_READ, *keys_read(str(config.get("model_type")))}
    for name in EXAMPLES:
        value = config.get(name)
        if name not in read or name not in config:
            continue
        if is_size(value) and value <= LARGEST_SIZE.get(name, MAX_SIZE):
            continue
        if value is None and name in MAY_BE_NULL:
            continue
        largest = LARGEST_SIZE.get(name, MAX_SIZE)
        reason, allowed = f"must be a whole number from 1 to {largest:,}", f"1 to {largest}"
        yield _bad_value(name, value, folder, reason, allowed, str(_example(name, config)))


def _bad_value(
    name: str, value: object, folder: Path | None, reason: str, allowed: str, best: str
) -> Problem:
    if folder is not None:
        return model_problem(str(folder), f"in config.json, {name} is {json.dumps(value)}: {reason}")
    key = f"model.config.{name}"
    return Problem(key, value, reason, allowed, either(f"{key}={best}"))


def _example(name: str, config: Mapping[str, Any]) -> int:
    """A valid value that goes with the other sizes."""
    heads = config.get("num_attention_heads")
    return heads * EXAMPLES["head_dim"] if name == "hidden_size" and is_size(heads) else EXAMPLES[name]


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


def _read_config(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = read_json(folder / "config.json")
    _check(config, folder)
    return config


def _cached_snapshot(repository: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache  # slow to import, and only hub ids need it
    from huggingface_hub.errors import HFValidationError

    try:
        config = try_to_load_from_cache(repository, "config.json")
    except HFValidationError:
        raise Refusal([model_problem(repository, "neither a folder nor a valid hub id")]) from None
    return Path(config).parent if isinstance(config, str) else None
