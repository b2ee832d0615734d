"""The architecture of a decoder, read from transformers' configuration without torch."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeGuard

from zpipe.facts.model_types import (
    COMMON,
    DEFAULTS,
    FIXED,
    GENERIC_DEFAULTS,
    GENERIC_NAMES,
    NAMES,
    REQUIRED,
    Settings,
)

Config = Mapping[str, Any]
Norm = Literal["rms", "gemma", "layer"]
"""`gemma` is an RMS norm that multiplies in fp32."""


@dataclass(frozen=True)
class Decoder:
    """Sizes are numbers of elements."""

    model_type: str
    layers: int
    hidden: int
    intermediate: int
    """Of the MLP in layers without experts."""
    heads: int
    key_value_heads: int
    head_dim: int
    vocab: int
    tied: bool
    """Whether the head of the language model is the table of embeddings."""
    activation: str = "silu"
    """transformers' name."""
    gated_mlp: bool = True
    """Whether the MLP multiplies two projections."""
    norm: Norm = "rms"
    norms: int = 2
    """Norms of the residual stream in one layer."""
    parallel_residual: bool = False
    """Whether attention and MLP have the same input."""
    query_key_norm: bool = False
    attention_bias: Literal["none", "qkv", "all"] = "none"
    mlp_bias: bool = False
    fused_projections: bool = False
    """Whether one matrix computes query, key and value."""
    positions: int = 0
    """Rows of the table of learned positions; 0 without one."""
    sliding_window: int | None = None
    residual_dropout: bool = False
    attention_dropout: bool = False
    attention_softcap: bool = False
    final_softcap: bool = False
    """Whether the logits are limited by a hyperbolic tangent."""
    experts: int = 0
    experts_per_token: int = 0
    expert_intermediate: int = 0
    shared_intermediate: int = 0
    """Of the expert for all tokens; 0 without one."""
    dense_layers: frozenset[int] = frozenset()
    """Layers with an MLP in place of the experts."""
    is_generic: bool = False
    """Whether the model type is unknown here and only sizes were read."""

    @property
    def query(self) -> int:
        """Elements of the queries of one token."""
        return self.heads * self.head_dim

    @property
    def key_value(self) -> int:
        """Elements of the keys of one token, and of its values."""
        return self.key_value_heads * self.head_dim


def is_size(value: object) -> TypeGuard[int]:
    """Whether the value is a whole number above 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def decoder_of(config: Config) -> Decoder | None:
    """None if a size is missing. Of a model with text and images, the part that reads text."""
    kind, inner = str(config.get("model_type")), config.get("text_config")
    if kind not in DEFAULTS and isinstance(inner, Mapping):
        kind, config = str(inner.get("model_type", f"{kind}_text")), inner
    if kind not in DEFAULTS:
        return _generic(kind, config)
    decoder = _read(kind, _Reader(config, {**COMMON, **DEFAULTS[kind]}, NAMES.get(kind, {})))
    return replace(decoder, **FIXED.get(kind, {})) if decoder is not None else None


def _generic(kind: str, config: Config) -> Decoder | None:
    """Models with an RMS norm have a gated MLP, as a rule."""
    decoder = _read(kind, _Reader(config, {**COMMON, **GENERIC_DEFAULTS}, GENERIC_NAMES))
    if decoder is None:
        return None
    is_like_llama = "rms_norm_eps" in config
    return replace(
        decoder, is_generic=True, gated_mlp=is_like_llama, norm="rms" if is_like_llama else "layer"
    )


@dataclass(frozen=True)
class _Reader:
    """Reads a configuration as a model type does."""

    config: Config
    optional: Settings
    names: Mapping[str, tuple[str, ...]]

    def __getitem__(self, name: str) -> Any:
        """The value or the default; None for a key that the model type does not read."""
        if name not in self.optional and name not in REQUIRED:
            return None
        given = (each for each in self.names.get(name, (name,)) if each in self.config)
        first = next(given, None)
        return self.config[first] if first is not None else self.optional.get(name)

    def size(self, name: str, otherwise: int = 0) -> int:
        """A size, or another one in place of null."""
        value = self[name]
        return value if is_size(value) else otherwise


def _read(kind: str, read: _Reader) -> Decoder | None:
    hidden, heads = read.size("hidden_size"), read.size("num_attention_heads")
    layers, vocab = read.size("num_hidden_layers"), read.size("vocab_size")
    may_be_missing = "intermediate_size" in read.optional
    intermediate = read.size("intermediate_size", 4 * hidden if may_be_missing else 0)
    if not all((hidden, heads, layers, intermediate, vocab)):
        return None
    decoder = Decoder(
        kind,
        layers,
        hidden,
        intermediate,
        heads,
        read.size("num_key_value_heads", heads),
        read.size("head_dim", hidden // heads),
        vocab,
        tied=bool(read["tie_word_embeddings"]),
        activation=str(read["hidden_act"]),
        parallel_residual=bool(read["use_parallel_residual"]),
        query_key_norm=bool(read["qk_layernorm"]),
        attention_bias="all" if read["attention_bias"] else "qkv" if read["qkv_bias"] else "none",
        mlp_bias=bool(read["mlp_bias"]),
        positions=read.size("max_position_embeddings"),
        sliding_window=read.size("sliding_window") or None,
        residual_dropout=bool(read["resid_pdrop"]),
        attention_dropout=bool(read["attention_dropout"]),
        attention_softcap=bool(read["attn_logit_softcapping"]),
        final_softcap=bool(read["final_logit_softcapping"]),
    )
    return _with_experts(decoder, read)


def _with_experts(decoder: Decoder, read: _Reader) -> Decoder:
    experts = read.size("num_experts")
    if not experts:
        return decoder
    step, without = read.size("decoder_sparse_step", 1), read["mlp_only_layers"]
    listed = without if isinstance(without, list | tuple) else ()
    return replace(
        decoder,
        experts=experts,
        experts_per_token=read.size("num_experts_per_tok"),
        expert_intermediate=read.size("moe_intermediate_size", decoder.intermediate),
        shared_intermediate=read.size("shared_expert_intermediate_size"),
        dense_layers=frozenset(
            index for index in range(decoder.layers) if (index + 1) % step or index in listed
        ),
    )
