"""Measures what one layer of a model of transformers has in memory, on the CPU, in bytes per token."""

import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoConfig, AutoModelForCausalLM

SEQUENCE = 101
"""A prime number that divides no size of a parameter: so a tensor of activations is known by its elements."""
LAYERS = 3
MEASURED = 1


@dataclass(frozen=True)
class Measured:
    """Of one layer: see `LayerActivations`."""

    kept: float
    forward_transient: float
    backward_transient: float


@dataclass
class _Phase:
    """What was alive when a pass through the layer began, and at most."""

    begin: int = 0
    most: int = 0
    end: int = 0


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all activations that are alive."""

    def __init__(self, sequence: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = 0
        self._sequence = sequence
        self._sizes: dict[int, int] = {}
        self._phase: _Phase | None = None

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        for each in tree_leaves(result):
            if isinstance(each, torch.Tensor):
                self._add(each)
        if self._phase is not None:
            self._phase.most = max(self._phase.most, self.live)
        return result

    def _add(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._sizes or (size // tensor.element_size()) % self._sequence:
            return
        self._sizes[key] = size
        self.live += size
        weakref.finalize(storage, self._remove, key)

    def _remove(self, key: int) -> None:
        self.live -= self._sizes.pop(key, 0)

    def start(self, phase: _Phase) -> None:
        phase.begin = phase.most = self.live
        self._phase = phase

    def stop(self) -> None:
        if self._phase is not None:
            self._phase.end = self.live
        self._phase = None


def measure(
    config: Mapping[str, Any],
    attention: str,
    batch: int = 2,
    sequence: int = SEQUENCE,
    dtype: torch.dtype = torch.bfloat16,
) -> Measured:
    """Trains a model with random weights for one step.

    Sizes of `config` must not be multiples of `sequence`, which is a prime number.
    """
    model = _model(config, attention, dtype)
    layers = next(
        each for each in model.modules() if isinstance(each, torch.nn.ModuleList) and len(each) == LAYERS
    )
    ids = torch.randint(0, int(config["vocab_size"]), (batch, sequence))
    forward, backward, live = _Phase(), _Phase(), LiveBytes(sequence)

    def enter(_: Any, inputs: Any) -> None:
        inputs[0].register_hook(lambda _: live.stop())
        live.start(forward)

    def leave(_: Any, inputs: Any, output: Any) -> None:
        live.stop()
        first = output[0] if isinstance(output, tuple) else output
        first.register_hook(lambda _: live.start(backward))

    layers[MEASURED].register_forward_pre_hook(enter)
    layers[MEASURED].register_forward_hook(leave)
    with live:
        model(input_ids=ids, labels=ids).loss.backward()
    tokens, kept = batch * sequence, backward.begin - backward.end
    return Measured(
        kept / tokens,
        (forward.most - forward.begin - kept) / tokens,
        (backward.most - backward.begin) / tokens,
    )


def measure_forward(
    config: Mapping[str, Any], attention: str, batch: int = 2, sequence: int = SEQUENCE
) -> float:
    """Bytes per token that are alive after the forward pass of the whole model, with its results."""
    model, live = _model(config, attention, torch.bfloat16), LiveBytes(sequence)
    ids = torch.randint(0, int(config["vocab_size"]), (batch, sequence))
    with live:
        result = model(input_ids=ids, labels=ids)
    assert result.loss is not None
    return live.live / (batch * sequence)


def _model(config: Mapping[str, Any], attention: str, dtype: torch.dtype) -> Any:
    torch.manual_seed(0)
    parsed = AutoConfig.for_model(**config, num_hidden_layers=LAYERS, use_cache=False)
    return AutoModelForCausalLM.from_config(parsed, attn_implementation=attention, dtype=dtype).train()
