"""Mends DeepSpeed's optimizers: an update before the first one, and a wait for each tensor's overflow.

DeepSpeed 0.19: runtime/fp16/fused_optimizer.py and unfused_optimizer.py, which wrap the optimizer of a 16-bit
model at stage 0; CheckOverflow in runtime/utils.py; runtime/zero/stage_1_and_2.py.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch.nn.utils import get_total_norm

from zpipe.train.stage_0 import in_one_pass


@contextmanager
def mended_optimizers() -> Iterator[None]:
    """Within it, engines of stage 0 update weights as those of the other stages do, and wait less."""
    from deepspeed.runtime.fp16.fused_optimizer import FP16_Optimizer
    from deepspeed.runtime.fp16.unfused_optimizer import FP16_UnfusedOptimizer
    from deepspeed.runtime.utils import CheckOverflow
    from deepspeed.runtime.zero.stage_1_and_2 import DeepSpeedZeroOptimizer

    name = "initialize_optimizer_states"
    with ExitStack() as mended:
        for wrapper in (FP16_Optimizer, FP16_UnfusedOptimizer):
            mended.enter_context(_replaced(wrapper, name, _without_an_update(getattr(wrapper, name))))
        mended.enter_context(_replaced(FP16_Optimizer, "step", in_one_pass(FP16_Optimizer.step)))
        mended.enter_context(_replaced(CheckOverflow, "has_overflow_serial", _of_parameters))
        partitions = "has_overflow_partitioned_grads_serial"
        mended.enter_context(_replaced(DeepSpeedZeroOptimizer, partitions, _of_partitions))
        yield


@contextmanager
def _replaced(owner: Any, name: str, method: Callable[..., Any]) -> Iterator[None]:
    upstream = getattr(owner, name)
    setattr(owner, name, method)
    try:
        yield
    finally:
        setattr(owner, name, upstream)


def _without_an_update(upstream: Callable[[Any], None]) -> Callable[[Any], None]:
    """DeepSpeed updates once with zero gradients: Adam counts it as the first step and decays the weights.

    Its 1-bit optimizers need that call, in which they only create their states.
    """

    def initialize(wrapper: Any) -> None:
        if hasattr(wrapper.optimizer, "initialize"):
            upstream(wrapper)

    return initialize


def _of_parameters(check: Any, parameters: Iterable[torch.nn.Parameter]) -> bool:
    """DeepSpeed's own waits for the answer of each tensor."""
    del check
    return bool(has_overflow(each.grad for each in parameters))


def _of_partitions(optimizer: Any) -> torch.Tensor:
    """DeepSpeed's own launches nine kernels for each tensor."""
    groups = (optimizer.averaged_gradients[index] for index in range(len(optimizer.bit16_groups)))
    return has_overflow(gradient for group in groups for gradient in group).reshape(1)


def has_overflow(gradients: Iterable[torch.Tensor | None]) -> torch.Tensor:
    """A bool on the device of the gradients: whether one of their elements is not finite."""
    present = [each for each in gradients if each is not None]
    stored = [each._values() if each.is_sparse else each for each in present]
    stored = [each for each in stored if each.numel()]
    if not stored:
        return torch.tensor(False, device=present[0].device if present else None)
    return torch.isfinite(get_total_norm(stored, norm_type=float("inf"), foreach=True)).logical_not()
