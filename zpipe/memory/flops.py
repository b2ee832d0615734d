"""FLOPs of training, for the model FLOPs utilization (MFU).

Chowdhery et al., PaLM: Scaling Language Modeling with Pathways, 2022, appendix B: 6 FLOPs for each parameter
of a matrix that a token is multiplied with, and 12 x layers x heads x head_dim for each position of its
sequence. The mask of causal attention is not deducted, and recomputation is not counted.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from zpipe.facts.decoder import is_size
from zpipe.facts.facts import Facts
from zpipe.facts.shapes import Shapes
from zpipe.plans.flops import TrainingFlops
from zpipe.schema.experiment import Experiment
from zpipe.schema.hardware import Tflops

_IN_A_LAYER = re.compile(r"\.\d+\.")
_EXPERT = ".experts."
_ATTENTION_OUTPUT = re.compile(r"(?:attn|attention)\.(?:o_proj|out_proj|c_proj|dense|wo)\.weight$")
"""Its inputs are the values of all heads."""
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")
_EXPERTS_OF_A_TOKEN = ("num_experts_per_tok", "num_experts_per_token")
_AUTOCAST = {"bfloat16": "bf16", "float16": "fp16"}


def training_flops(experiment: Experiment, facts: Facts) -> TrainingFlops | None:
    """None if the weights of the model are not known, or their names do not tell what they are."""
    model = facts.model
    if facts.parameter_shapes is None or model.hidden_size is None:
        return None
    matrices = matrix_elements(facts.parameter_shapes, model.config)
    width = attention_width(facts.parameter_shapes, model.hidden_size)
    if not matrices or not width:
        return None
    return TrainingFlops(weights=6 * matrices, attention=12 * width, peak=_peak(experiment, facts))


def matrix_elements(shapes: Shapes, config: Mapping[str, Any]) -> int:
    """Elements of the matrices that one token is multiplied with; 0 if that cannot be told.

    They are those of the layers, of which a token uses some experts only, and the output head. The head, also
    a tied one, has the shape of the token embedding, which is the largest matrix outside the layers. Looking
    up embeddings takes no multiplication.
    """
    outside = (math.prod(shape) for name, shape in shapes.items() if not _IN_A_LAYER.search(name))
    layers = [(name, shape) for name, shape in shapes.items() if _IN_A_LAYER.search(name)]
    experts = sum(math.prod(shape) for name, shape in layers if _EXPERT in name and _is_matrix(name, shape))
    shared = sum(
        math.prod(shape) for name, shape in layers if _EXPERT not in name and _is_matrix(name, shape)
    )
    used, of = _first(config, _EXPERTS_OF_A_TOKEN), _first(config, _EXPERTS)
    if experts and not (used and of):
        return 0
    return shared + max(outside, default=0) + (experts * used // of if used and of else 0)


def attention_width(shapes: Shapes, hidden_size: int) -> int:
    """The sum of heads x head_dim of all layers; 0 if no layer has attention that is known by its name."""
    outputs = (math.prod(shape) for name, shape in shapes.items() if _ATTENTION_OUTPUT.search(name))
    return sum(outputs) // hidden_size


def _is_matrix(name: str, shape: tuple[int, ...]) -> bool:
    """Weights of all experts of a layer may be one tensor of three dimensions, whose name has no `weight`."""
    if _EXPERT in name:
        return len(shape) >= 2 and not name.endswith("bias")
    return len(shape) == 2 and name.endswith(".weight")


def _first(config: Mapping[str, Any], names: tuple[str, ...]) -> int:
    return next((config[name] for name in names if is_size(config.get(name))), 0)


def _peak(experiment: Experiment, facts: Facts) -> float | None:
    """FLOP/s in the dtype of the matrices; None where the GPUs differ."""
    autocast = experiment.precision.torch_autocast
    dtype = _AUTOCAST[autocast.dtype] if autocast.enabled and autocast.dtype else facts.dtype
    gpus = facts.hardware.gpus[: facts.nproc_per_node] if facts.device == "cuda" else ()
    peaks = {getattr(gpu.tflops or Tflops(), dtype) for gpu in gpus}
    peak = peaks.pop() if len(peaks) == 1 else None
    return None if peak is None else peak * 1e12
