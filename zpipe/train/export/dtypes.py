"""The formats in which weights are trained and exported."""

import torch

TORCH: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

CONFIG: dict[str, str] = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""As config.json has it."""


def exported_dtype(dtype: torch.dtype, wanted: str) -> torch.dtype:
    """The format of an exported tensor: indices and masks keep theirs."""
    return TORCH[wanted] if dtype.is_floating_point else dtype
