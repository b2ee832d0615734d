"""transformers' Trainer that reads values from the device only when they are logged.

A value that the host reads arrives when the device has done everything before it; the device then idles until
the host has queued the next kernels.
"""

from typing import Any

import torch
from transformers import Trainer


class AheadTrainer(Trainer):
    """Lets the host run ahead of the device. Losses, norms and weights are those of transformers' Trainer."""

    _parameters: int | None = None

    def _clip_grad_norm(self, model: Any) -> Any:
        """DeepSpeed has clipped the gradients; `_get_grad_norm` returns their norm."""
        return None

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        """A tensor on the device or a number; transformers reads it at each step, and again when it logs."""
        return self.model_wrapped.get_global_grad_norm()

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """transformers' estimate, which counts the parameters anew for each micro-batch."""
        if self._parameters is None:
            self._parameters = counted_parameters(self.model)
        return 6 * int(inputs["input_ids"].numel()) * self._parameters


def counted_parameters(model: torch.nn.Module) -> int:
    """Elements of all parameters but embeddings, also of those that ZeRO-3 has partitioned.

    transformers counts what lies in this process: nothing at stage 3, or everything while it is gathered.
    """
    embeddings = {id(each.weight) for each in model.modules() if isinstance(each, torch.nn.Embedding)}
    counted = (each for each in model.parameters() if id(each) not in embeddings)
    return sum(getattr(each, "ds_numel", each.numel()) for each in counted)
