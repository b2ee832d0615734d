"""What can be known about a model before it is loaded: from its configuration and its files' headers."""

import json
import math
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zpipe.plan import ModelFacts
from zpipe.problems import Problem, Refusal
from zpipe.schema.surroundings import Model

BYTES_TOKENIZER = "bytes"
DENSE_DECODERS = frozenset({"llama", "mistral", "qwen2", "qwen3"})
"""Model types whose parameters follow from the configuration by the formula below."""
SHAPE_KEYS = frozenset(
    {"hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size"}
)
"""Keys that the formula reads; one that is left to transformers' default cannot be known here."""


def model_facts(model: Model) -> ModelFacts:
    """Reads the configuration; raises Refusal when a local folder is none of a model."""
    if model.name_or_path is None:
        name = f"{model.config.get('model_type')} architecture"
        return _facts(name, True, model.config, model.tokenizer or BYTES_TOKENIZER, None)
    folder = local_folder(model.name_or_path)
    config = _read_config(folder) if folder else {}
    return _facts(model.name_or_path, False, config, model.tokenizer or model.name_or_path, folder)


def parameter_numels(config: Mapping[str, Any], folder: Path | None) -> list[int] | None:
    """Elements of each parameter tensor, tied weights once; null if the model cannot be looked into."""
    if config.get("model_type") in DENSE_DECODERS and set(config) >= SHAPE_KEYS:
        return _dense_decoder(config)
    return _numels_from_safetensors(folder) if folder else None


def local_folder(name_or_path: str) -> Path | None:
    """The folder of a local model, or of a hub model's snapshot in the cache; null if there is none.

    Raises Refusal for what is written as a path but isn't there.
    """
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        if (path / "config.json").is_file():
            return path.resolve()
        raise Refusal([_model_problem(name_or_path, "this folder has no config.json")])
    if path.exists() or name_or_path.startswith(("/", ".", "~")):
        raise Refusal([_model_problem(name_or_path, "no such folder")])
    return _cached_snapshot(name_or_path)


def _facts(
    name: str, random_init: bool, config: dict[str, Any], tokenizer: str, folder: Path | None
) -> ModelFacts:
    numels = parameter_numels(config, folder)
    return ModelFacts(
        name=name,
        random_init=random_init,
        config=config,
        tokenizer=tokenizer,
        hidden_size=_hidden_size(config),
        parameters=sum(numels) if numels else None,
    )


def _hidden_size(config: Mapping[str, Any]) -> int | None:
    """By transformers' own order (transformers/integrations/deepspeed.py, trainer_config_finalize)."""
    for block in (config, config.get("text_config") or {}):
        if "hidden_size" in block:
            return int(block["hidden_size"])
        if "hidden_sizes" in block:
            return max(int(size) for size in block["hidden_sizes"])
    return None


def _dense_decoder(config: Mapping[str, Any]) -> list[int]:
    hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
    head_dim = int(config.get("head_dim") or hidden // heads)
    query, key_value = heads * head_dim, int(config.get("num_key_value_heads") or heads) * head_dim
    feed_forward = hidden * int(config["intermediate_size"])
    block = [hidden * query, hidden * key_value, hidden * key_value, query * hidden]
    block += [feed_forward] * 3 + [hidden] * 2
    if config["model_type"] == "qwen2":
        block += [query, key_value, key_value]
    if config["model_type"] == "qwen3":
        block += [head_dim] * 2
    embedding = int(config["vocab_size"]) * hidden
    heads_of_model = [] if config.get("tie_word_embeddings") else [embedding]
    return [embedding, *(block * int(config["num_hidden_layers"])), hidden, *heads_of_model]


def _numels_from_safetensors(folder: Path) -> list[int] | None:
    """From the JSON header that opens each file: 8 bytes of length, little-endian, then the JSON."""
    numels: list[int] = []
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
        numels += [math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__"]
    return numels or None


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text())
    except ValueError as error:
        raise Refusal([_model_problem(str(folder), f"config.json is not JSON: {error}")]) from None
    return dict(config)


def _cached_snapshot(repository: str) -> Path | None:
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    cache = Path(os.environ.get("HF_HUB_CACHE", home / "hub")).expanduser()
    entry = cache / f"models--{repository.replace('/', '--')}"
    reference = entry / "refs" / "main"
    if not reference.is_file():
        return None
    snapshot = entry / "snapshots" / reference.read_text().strip()
    return snapshot if (snapshot / "config.json").is_file() else None


def _model_problem(value: str, reason: str) -> Problem:
    allowed = "a folder that save_pretrained wrote, or a hub id such as Qwen/Qwen2.5-0.5B"
    return Problem("model.name_or_path", value, reason, allowed, "model=tiny, or the right path")
