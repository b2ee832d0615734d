"""What a pass through a model allocates, in numbers."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from zpipe.facts.decoder import decoder_of
from zpipe.facts.facts import Facts
from zpipe.memory.activations import (
    LayerActivations,
    default_attention,
    extra_logits,
    final_norm_bytes,
    layer_activations,
    without_experts,
)
from zpipe.schema.experiment import Experiment

_LAYER = re.compile(r"\.(\d+)\.")


@dataclass(frozen=True)
class Model:
    """A model and a micro-batch."""

    tokens: int
    """Of one micro-batch."""
    hidden: int
    vocabulary: int
    element: int
    """Bytes of an activation."""
    layer: LayerActivations
    dense_layer: LayerActivations
    """Of layers without experts; the same where there are none."""
    dense_layers: frozenset[int]
    """Layers of a mixture of experts that have none."""
    layers: tuple[tuple[int, ...], ...]
    """Elements of the parameters of each layer."""
    embedding: int
    """Elements of parameters before the layers."""
    behind: int
    """Elements of parameters behind the layers."""
    is_tied: bool
    """Whether the output head is the embedding."""
    final_norm: int
    """Bytes per token that the last norm keeps."""
    is_checkpointed: bool
    keeps_on_host: bool
    """Whether the inputs of checkpointed layers are kept in host memory."""
    has_fused_loss: bool
    kept_logits: int
    """Further copies of the logits that a soft cap keeps."""

    @property
    def checkpoint(self) -> int:
        """Bytes of the input of one layer."""
        return self.element * self.hidden * self.tokens

    def activations(self, index: int) -> LayerActivations:
        return self.dense_layer if index in self.dense_layers else self.layer


def model_of(experiment: Experiment, facts: Facts) -> Model | None:
    """None if the model cannot be inspected yet."""
    decoder = decoder_of(facts.model.config)
    if facts.parameter_shapes is None or decoder is None:
        return None
    element = 4 if facts.parameter_dtype == "fp32" else 2
    # Compiled layers keep what Liger's keep: the inputs of norms and of the product, not what is between.
    liger = facts.liger.replaces_layers or experiment.has_compiled_layers

    def activations(experts: bool) -> LayerActivations:
        return layer_activations(
            decoder if experts else without_experts(decoder),
            attention=experiment.model.attn_implementation or default_attention(decoder),
            liger=liger,
            element_bytes=element,
            sequence=experiment.data.max_length,
            masked=experiment.data.packing != "wrapped" and facts.micro_batch > 1,
        )

    elements = {name: math.prod(shape) for name, shape in facts.parameter_shapes.items()}
    before, layers, behind = split_by_layer(elements)
    train = experiment.train
    return Model(
        tokens=facts.micro_batch * experiment.data.max_length,
        hidden=decoder.hidden,
        vocabulary=decoder.vocab,
        element=element,
        layer=activations(experts=True),
        dense_layer=activations(experts=False),
        dense_layers=decoder.dense_layers,
        layers=layers,
        embedding=before,
        behind=behind,
        is_tied=behind < decoder.hidden * decoder.vocab,
        final_norm=final_norm_bytes(decoder, liger=liger, element_bytes=element),
        is_checkpointed=train.gradient_checkpointing or experiment.activation_checkpointing.enabled,
        keeps_on_host=experiment.activation_checkpointing.cpu_checkpointing is True,
        has_fused_loss=facts.liger.fuses_loss,
        kept_logits=extra_logits(decoder),
    )


def split_by_layer(shapes: Mapping[str, int]) -> tuple[int, tuple[tuple[int, ...], ...], int]:
    """Elements before the layers, of each parameter of each layer, and behind them."""
    layers: dict[int, list[int]] = {}
    before = behind = 0
    for name, elements in shapes.items():
        match = _LAYER.search(name)
        if match is not None:
            layers.setdefault(int(match[1]), []).append(elements)
        elif layers:
            behind += elements
        else:
            before += elements
    return before, tuple(tuple(each) for _, each in sorted(layers.items())), behind
