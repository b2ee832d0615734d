"""A forward pass of the exported model, compared with one of the trained weights."""

import gc
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging as transformers_logging

from zpipe.data.machine_errors import reraise_machine_error
from zpipe.facts.weights import listed
from zpipe.problems import Problem, Refusal
from zpipe.train.export.checking import not_the_model
from zpipe.train.export.dtypes import TORCH
from zpipe.train.export.expected import LOADING, build
from zpipe.train.export.weights import Weights
from zpipe.train.refusals import one_line

_TOKENS = 64
_ROUNDINGS = 16
"""Largest relative difference of the logits, in units of the last place of the coarser format."""


def forward_difference(
    exported: Path, trained: Path | None, source: Weights, trained_dtype: str, dtype: str
) -> float:
    """The relative difference (of the Euclidean norms) between the logits of the two models.

    Both are computed in the format of the training. The reference is loaded by from_pretrained from
    `trained`, or filled from `source` where the training saved no weights. One model is in memory at a time.
    Raises Refusal if transformers does not find every weight, or if the logits differ by more than rounding.
    """
    transformers_logging.disable_progress_bar()
    try:
        reference = _logits(_reference(exported, trained, source, TORCH[trained_dtype]))
        gc.collect()
        logits = _logits(_loaded(exported, TORCH[trained_dtype]))
    except Refusal:
        raise
    except Exception as error:  # A configuration may fit the weights and be nonsense otherwise.
        reraise_machine_error(error)
        reason = f"transformers cannot run the model: {one_line(error)}"
        raise Refusal([Problem("export", "", reason)]) from error
    difference = _relative(logits, reference)
    allowed = _ROUNDINGS * max(torch.finfo(TORCH[name]).eps for name in (dtype, trained_dtype))
    if not difference <= allowed:
        reason = f"the logits of a forward pass differ by {difference:.2g}, more than {allowed:.2g}"
        raise Refusal([not_the_model(reason)])
    return difference


def forward_bytes(parameters: int, trained_dtype: str) -> int:
    """Host memory that `forward_difference` needs: one model at a time, in the format of the training."""
    return parameters * TORCH[trained_dtype].itemsize


def _loaded(folder: Path, dtype: torch.dtype) -> Any:
    from transformers import AutoModelForCausalLM

    model, report = AutoModelForCausalLM.from_pretrained(
        str(folder),
        dtype=dtype,
        local_files_only=True,
        use_safetensors=True,
        output_loading_info=True,
        **LOADING,
    )
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        names = sorted(map(str, report[what]))
        if names:
            reason = f"from_pretrained reports {what.replace('_', ' ')}: {listed(names)}"
            raise Refusal([Problem("export", "", reason)])
    return model


def _reference(folder: Path, trained: Path | None, source: Weights, dtype: torch.dtype) -> Any:
    """The model of the weights that the training saved; without them, of the weights of the source."""
    if trained is not None:
        return _loaded(trained, dtype)
    model = build(folder, dtype)
    state = model.state_dict()
    with torch.no_grad():
        for name in source.shapes:
            state[name].copy_(source.tensor(name))
    return model


def _logits(model: Any) -> torch.Tensor:
    text = model.config.get_text_config()
    length = min(_TOKENS, getattr(text, "max_position_embeddings", None) or _TOKENS)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, text.vocab_size, (1, length), generator=generator)
    with torch.no_grad():
        logits: torch.Tensor = model.eval()(input_ids=tokens, use_cache=False).logits
    return logits.double()


def _relative(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm().clamp_min(torch.finfo(torch.double).tiny))
