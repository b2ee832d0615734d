"""The parameters of common decoders, computed from their configuration without torch."""

from collections.abc import Callable

from zpipe.facts.decoder import Config, Decoder, decoder_of
from zpipe.facts.shapes.gpt import gpt2_shapes, gpt_neox_shapes
from zpipe.facts.shapes.llama import llama_shapes
from zpipe.facts.shapes.names import HEAD, Shapes
from zpipe.facts.shapes.phi import phi3_shapes, phi_shapes

__all__ = ["HEAD", "NAMED_AS_IN_FILES", "SHAPES", "Shapes", "has_known_shapes", "parameter_shapes"]

NAMED_AS_IN_FILES = frozenset(
    {"llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi", "phi3"}
)
"""Model types whose weight files have the names of the parameters.

transformers renames or joins the tensors of others while it loads them (conversion_mapping.py).
"""

SHAPES: dict[str, Callable[[Decoder], Shapes]] = {
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3"), llama_shapes),
    **dict.fromkeys(("gemma", "gemma2", "gemma3_text"), llama_shapes),
    **dict.fromkeys(("mixtral", "qwen2_moe", "qwen3_moe"), llama_shapes),
    "phi": phi_shapes,
    "phi3": phi3_shapes,
    "gpt2": gpt2_shapes,
    "gpt_neox": gpt_neox_shapes,
}
"""The parameters of each model type that is known here."""


def has_known_shapes(config: Config) -> bool:
    """Whether `parameter_shapes` knows this model."""
    known = str(config.get("model_type")) in SHAPES and not config.get("add_cross_attention")
    return known and decoder_of(config) is not None


def parameter_shapes(config: Config) -> Shapes:
    """The shape of each parameter by name, tied weights once, in the order of the modules.

    Raises ValueError for a model that is not known.
    """
    decoder = decoder_of(config) if has_known_shapes(config) else None
    if decoder is None:
        raise ValueError(f"the parameters of {config.get('model_type')} are not known")
    return SHAPES[decoder.model_type](decoder)
