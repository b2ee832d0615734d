"""The update of a bf16 model at stage 0, in one pass over the gradients and with one wait of the host.

DeepSpeed's own (runtime/fp16/fused_optimizer.py) waits for each gradient and copies all of them twice.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch._utils import _unflatten_dense_tensors
from torch.nn.utils import get_total_norm

_EPSILON = 1e-6
"""DeepSpeed's, in the clipping of gradients."""


def in_one_pass(upstream: Callable[..., bool]) -> Callable[..., bool]:
    """FP16_Optimizer.step, with DeepSpeed's own for what is scaled, sharded or has experts."""

    def step(wrapper: Any, closure: Any = None) -> bool:
        return _update(wrapper) if _is_plain(wrapper) else upstream(wrapper, closure)

    return step


def _is_plain(wrapper: Any) -> bool:
    is_scaled = wrapper.loss_scale_config.use_grad_scaling or wrapper.loss_scale_config.cur_scale != 1
    return not (is_scaled or wrapper.fused_adam_legacy or wrapper.has_moe_layers or wrapper.mpu is not None)


@torch.no_grad()
def _update(wrapper: Any) -> bool:
    """Returns whether the step was skipped because the gradients are not finite."""
    groups = list(zip(wrapper.fp16_groups, wrapper.fp32_groups_flat, strict=True))
    gradients = [_taken_gradients(parameters, masters) for parameters, masters in groups]
    norm = float(get_total_norm(gradients, foreach=True))
    wrapper.overflow = not math.isfinite(norm)
    if wrapper.overflow:
        return bool(wrapper._skip_invalid_grad_norm())
    wrapper._global_grad_norm = norm
    excess = (norm + _EPSILON) / wrapper.clip_grad if wrapper.clip_grad > 0 else 0.0
    for (_, masters), gradient in zip(groups, gradients, strict=True):
        masters.grad = gradient.mul_(1 / excess) if excess > 1 else gradient
    wrapper.optimizer.step()
    for parameters, masters in groups:
        masters.grad = None
        torch._foreach_copy_(parameters, _unflatten_dense_tensors(masters, parameters))
    wrapper.has_executed_step = True
    return False


def _taken_gradients(parameters: Sequence[torch.nn.Parameter], masters: torch.Tensor) -> torch.Tensor:
    """The gradients as one tensor like the masters; the parameters have none afterwards."""
    flat = torch.empty_like(masters, requires_grad=False)
    views = _unflatten_dense_tensors(flat, parameters)
    present = [
        (view, each.grad) for view, each in zip(views, parameters, strict=True) if each.grad is not None
    ]
    if len(present) < len(views):
        flat.zero_()
    torch._foreach_copy_([view for view, _ in present], [gradient for _, gradient in present])
    for each in parameters:
        each.grad = None
    return flat
