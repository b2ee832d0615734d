"""Measures layers with Liger's kernels on the CPU: no kernel is launched, but their tensors are allocated.

python -m tests.support.liger_layers ATTENTION=CONFIG ... prints the measured bytes per token as JSON. It is a
process of its own because Liger changes transformers.
"""

import inspect
import json
import sys
from dataclasses import asdict
from typing import Any

import torch
from liger_kernel.ops import fused_moe
from liger_kernel.transformers.monkey_patch import MODEL_TYPE_TO_APPLY_LIGER_FN
from triton.runtime.jit import KernelInterface

from tests.support.live_bytes import measure

LOSSES = ("cross_entropy", "fused_linear_cross_entropy")


class _Zeroed:
    """torch, whose new tensors are zero: the routing, which no kernel writes, must not be random."""

    empty = torch.zeros

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


def main() -> None:
    KernelInterface.__getitem__ = lambda kernel, grid: lambda *args, **kwargs: None
    fused_moe.torch = _Zeroed()
    found = []
    for argument in sys.argv[1:]:
        attention, _, text = argument.partition("=")
        config = json.loads(text)
        patch = MODEL_TYPE_TO_APPLY_LIGER_FN[config["model_type"]]
        patch(**{name: False for name in LOSSES if name in inspect.signature(patch).parameters})
        found.append(asdict(measure(config, attention, batch=1, sequence=101)))
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
