"""The formats in which weights are trained and exported."""

import torch

TORCH: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

CONFIG: dict[str, str] = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""As config.json has it."""

SAFETENSORS: dict[torch.dtype, str] = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""Names in the header of a safetensors file (https://github.com/huggingface/safetensors, Format)."""


def exported_dtype(dtype: torch.dtype, wanted: str) -> torch.dtype:
    """The format of an exported tensor: indices and masks keep theirs."""
    return TORCH[wanted] if dtype.is_floating_point else dtype
