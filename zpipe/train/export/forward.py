"""A forward pass of the exported model, compared with one of the trained weights."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging as transformers_logging

from zpipe.data.machine_errors import reraise_machine_error
from zpipe.facts.weights import listed
from zpipe.problems import Problem, Refusal
from zpipe.train.export.checking import not_the_model
from zpipe.train.export.dtypes import TORCH
from zpipe.train.export.expected import LOADING, Expected
from zpipe.train.export.memory import bytes_of_forward, free_bytes
from zpipe.train.export.streaming import StreamedModel, logits_of, vocabulary_of, whole
from zpipe.train.export.weights import Weights
from zpipe.train.refusals import one_line

_ROUNDINGS = 16
"""Largest relative difference of the logits, in units of the last place of the coarser format."""


class NoRoom(Exception):
    """The forward pass needs the whole model in memory, and that does not fit."""


class ForwardPasses:
    """Forward passes of one model with several weights, in the format of the training.

    The weights are streamed. Where they have other names in files than in the model, or parts of the model
    use weights of other parts, one whole model is in memory at a time.
    """

    def __init__(self, folder: Path, trained_dtype: str, expected: Expected) -> None:
        """Raises Refusal if transformers has no such model."""
        self._trained_dtype = trained_dtype
        self._streamed = StreamedModel(folder, TORCH[trained_dtype], expected.tied)
        self._model_bytes = expected.parameters * TORCH[trained_dtype].itemsize

    def predicted_bytes(self, *weights: Weights) -> int:
        """Host memory for passes with each of these, one after the other."""
        is_streamed = all(map(self._streamed.fits, weights))
        # transformers holds the parts of a layer while it joins them.
        model = self._streamed.most_bytes + (0 if is_streamed else self._model_bytes)
        largest = max(prod(shape) for each in weights for shape in each.shapes.values())
        return bytes_of_forward(model, largest, vocabulary_of(self._streamed.model))

    def difference(self, exported: Weights, reference: Weights, dtype: str) -> float:
        """The relative difference (of the Euclidean norms) between the logits of the two.

        Raises NoRoom, and Refusal if the logits differ by more than rounding to the coarser format.
        """
        transformers_logging.disable_progress_bar()
        try:
            difference = _relative(self.logits(exported), self.logits(reference))
        except (Refusal, NoRoom):
            raise
        except Exception as error:  # A configuration may fit the weights and be nonsense otherwise.
            reraise_machine_error(error)
            raise _cannot_run(error) from error
        allowed = _ROUNDINGS * max(torch.finfo(TORCH[name]).eps for name in (dtype, self._trained_dtype))
        if not difference <= allowed:
            reason = f"the logits of a forward pass differ by {difference:.2g}, more than {allowed:.2g}"
            raise Refusal([not_the_model(reason)])
        return difference

    def logits(self, weights: Weights) -> torch.Tensor:
        """Raises NoRoom, and whatever the model raises."""
        if self._streamed.fits(weights):
            try:
                return self._streamed.logits(weights)
            except Refusal:
                raise
            except Exception as error:  # Each architecture has its own message for weights without values.
                reraise_machine_error(error)
        if self._model_bytes > free_bytes():
            raise NoRoom
        try:
            return logits_of(self._whole(weights))
        finally:
            gc.collect()  # models have cycles

    def _whole(self, weights: Weights) -> Any:
        model, dtype = self._streamed.model, TORCH[self._trained_dtype]
        values = {name: _Value(weights, name) for name in weights.shapes}
        with _one_after_the_other():
            return type(model).from_pretrained(
                None, config=model.config, state_dict=values, dtype=dtype, **LOADING
            )


class _Value:
    """Read when transformers asks for it, as for a slice of a file."""

    def __init__(self, weights: Weights, name: str) -> None:
        self._weights, self._name = weights, name

    def __getitem__(self, everything: object) -> torch.Tensor:
        return whole(self._weights, self._name, self._weights.dtype(self._name))


@contextmanager
def _one_after_the_other() -> Iterator[None]:
    """Within it, transformers does not read ahead: threads would read all weights before they are joined."""
    name = "HF_DEACTIVATE_ASYNC_LOAD"
    given = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if given is None:
            del os.environ[name]
        else:
            os.environ[name] = given


def check_loading(folder: Path) -> None:
    """Raises Refusal unless from_pretrained finds every weight. No weights are loaded."""
    from transformers import AutoModelForCausalLM

    transformers_logging.disable_progress_bar()
    try:
        _, report = AutoModelForCausalLM.from_pretrained(
            str(folder),
            device_map="meta",
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            **LOADING,
        )
    except Exception as error:
        reraise_machine_error(error)
        raise _cannot_run(error) from error
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        names = sorted(map(str, report[what]))
        if names:
            reason = f"from_pretrained reports {what.replace('_', ' ')}: {listed(names)}"
            raise Refusal([Problem("export", "", reason)])


def _cannot_run(error: Exception) -> Refusal:
    return Refusal([Problem("export", "", f"transformers cannot run the model: {one_line(error)}")])


def _relative(one: torch.Tensor, other: torch.Tensor) -> float:
    one, other = one.double(), other.double()
    return float((one - other).norm() / other.norm().clamp_min(torch.finfo(torch.double).tiny))
