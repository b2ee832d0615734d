"""Verifies a saved model: at stage 3, saving without gathering the weights writes empty tensors."""

import math
from pathlib import Path
from typing import Any


def check_saved_model(folder: Path, model: Any) -> None:
    """Raises RuntimeError unless the safetensors files hold every parameter in full."""
    saved = saved_shapes(folder)
    elements = sum(math.prod(shape) for shape in saved.values())
    expected = sum(getattr(parameter, "ds_numel", parameter.numel()) for parameter in model.parameters())
    if elements < expected:
        raise RuntimeError(
            f"the saved model in {folder} holds {elements} of {expected} parameter elements; "
            "stage 3 needs stage.stage3_gather_16bit_weights_on_model_save=true"
        )


def saved_shapes(folder: Path) -> dict[str, list[int]]:
    """The shape of each tensor in the folder's safetensors files; reads only their headers."""
    from safetensors import safe_open

    shapes: dict[str, list[int]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="np") as tensors:
            shapes |= {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118
    return shapes
