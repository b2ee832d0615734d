"""A forward pass that has one part of the model in memory at a time: a layer, an embedding, or the head."""

from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import torch

from zpipe.train.export.expected import skeleton
from zpipe.train.export.pieces import pieces
from zpipe.train.export.weights import Weights

TOKENS = 64


class CannotStream(Exception):
    """Parts of this architecture use weights of other parts."""


class _Place(NamedTuple):
    """Where a parameter belongs."""

    owner: torch.nn.Module
    attribute: str
    empty: torch.nn.Parameter
    """It has a shape and a format."""
    weights: str
    """The name of its weights: of tied parameters, the one that is in files."""


class _Part:
    """A module with its places, which are filled while it computes."""

    def __init__(self, module: torch.nn.Module, places: list[_Place]) -> None:
        self.module, self._places = module, places

    @property
    def bytes(self) -> int:
        return sum(place.empty.nbytes for place in self._places)

    def fill(self, weights: Weights) -> None:
        for owner, attribute, empty, name in self._places:
            value = whole(weights, name, empty.dtype)
            owner._parameters[attribute] = torch.nn.Parameter(value, requires_grad=False)

    def clear(self) -> None:
        for owner, attribute, empty, _ in self._places:
            owner._parameters[attribute] = empty


class StreamedModel:
    """The model of a folder's config.json, for weights with the names of the model. Raises Refusal."""

    def __init__(self, folder: Path, dtype: torch.dtype, tied: Mapping[str, str]) -> None:
        self.model, self._tied = skeleton(folder, dtype), tied
        self._parts = list(self._found("", self.model))

    @property
    def most_bytes(self) -> int:
        """Of the weights that are in memory at once."""
        return max(part.bytes for part in self._parts)

    def fits(self, weights: Weights) -> bool:
        """Whether the weights have the names of the model; some architectures have others in files."""
        return all(self._tied.get(name, name) in weights.shapes for name, _ in self.model.named_parameters())

    def logits(self, weights: Weights) -> torch.Tensor:
        """Raises CannotStream, and whatever the model raises."""
        for name, buffer in self.model.named_buffers():
            if name in weights.shapes:
                buffer.copy_(whole(weights, name, buffer.dtype))
        handles = [handle for part in self._parts for handle in _hooked(part, weights)]
        try:
            logits = logits_of(self.model)
        finally:
            for handle in handles:
                handle.remove()
            for part in self._parts:
                part.clear()
        if logits.is_meta:
            raise CannotStream
        return logits

    def _found(self, prefix: str, module: torch.nn.Module) -> Iterator[_Part]:
        """Layers as a whole, because their modules may use weights of each other."""
        is_layer = type(module).__name__ in set(getattr(self.model, "_no_split_modules", None) or ())
        owners = (
            module.named_modules(prefix=prefix, remove_duplicate=False) if is_layer else [(prefix, module)]
        )
        places = [place for name, owner in owners for place in self._places(name, owner)]
        if places:
            yield _Part(module, places)
        if not is_layer:
            for name, child in module.named_children():
                yield from self._found(f"{prefix}.{name}" if prefix else name, child)

    def _places(self, prefix: str, owner: torch.nn.Module) -> Iterator[_Place]:
        for attribute, value in owner._parameters.items():
            if value is not None:
                name = f"{prefix}.{attribute}" if prefix else attribute
                yield _Place(owner, attribute, value, self._tied.get(name, name))


def vocabulary_of(model: Any) -> int:
    return int(model.config.get_text_config().vocab_size)


def logits_of(model: Any) -> torch.Tensor:
    """Of a few tokens that are always the same."""
    text = model.config.get_text_config()
    length = min(TOKENS, getattr(text, "max_position_embeddings", None) or TOKENS)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, vocabulary_of(model), (1, length), generator=generator)
    with torch.no_grad():
        logits: torch.Tensor = model.eval()(input_ids=tokens, use_cache=False).logits
    return logits


def whole(weights: Weights, name: str, dtype: torch.dtype) -> torch.Tensor:
    """The tensor as a new one in this format; integers keep theirs."""
    shape, own = weights.shapes[name], weights.dtype(name)
    found = torch.empty(prod(shape), dtype=dtype if own.is_floating_point else own)
    for piece in pieces(shape):
        found[piece.start : piece.end].copy_(weights.part(name, piece))
    return found.view(shape)


def _hooked(part: _Part, weights: Weights) -> Iterator[Any]:
    yield part.module.register_forward_pre_hook(lambda *_: part.fill(weights))
    yield part.module.register_forward_hook(lambda *_: part.clear())
