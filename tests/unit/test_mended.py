"""What zpipe mends in DeepSpeed's optimizers."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from zpipe.train.mended import has_overflow, mended_optimizers

DTYPES = [torch.bfloat16, torch.float16, torch.float32]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [float("inf"), -float("inf"), float("nan")])
def test_one_value_that_is_not_finite_is_an_overflow(dtype: torch.dtype, bad: float) -> None:
    gradients = _gradients(dtype)
    assert not has_overflow(gradients)
    gradients[1][3, 2] = bad
    assert has_overflow(gradients)
    sparse = gradients[1].to_sparse()
    assert has_overflow([gradients[0], sparse])


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_largest_finite_values_are_no_overflow(dtype: torch.dtype) -> None:
    assert not has_overflow([torch.full_like(each, torch.finfo(dtype).max) for each in _gradients(dtype)])


def test_absent_and_empty_gradients_are_no_overflow() -> None:
    assert not has_overflow([None, torch.zeros(0)])
    assert not has_overflow([])


def test_deepspeed_is_as_before_afterwards() -> None:
    from deepspeed.runtime.fp16.fused_optimizer import FP16_Optimizer
    from deepspeed.runtime.utils import CheckOverflow

    before = FP16_Optimizer.initialize_optimizer_states, CheckOverflow.has_overflow_serial
    with pytest.raises(RuntimeError), mended_optimizers():
        assert FP16_Optimizer.initialize_optimizer_states is not before[0]
        raise RuntimeError
    assert before == (FP16_Optimizer.initialize_optimizer_states, CheckOverflow.has_overflow_serial)


def _gradients(dtype: torch.dtype) -> list[torch.Tensor]:
    return [torch.ones(shape, dtype=dtype) for shape in ((4,), (5, 3), (2, 2))]


def _updated(clip: float, is_mended: bool, bad_step: int = -1) -> tuple[list[torch.Tensor], list[float]]:
    """Weights after some updates of two groups, and the norms. One parameter never has a gradient."""
    from deepspeed.runtime.fp16.fused_optimizer import FP16_Optimizer

    torch.manual_seed(7)
    shapes = ((6, 4), (3,), (5, 2), (4,))
    parameters = [torch.nn.Parameter(torch.randn(shape).bfloat16()) for shape in shapes]
    groups: list[dict[str, Any]] = [
        {"params": parameters[:2]},
        {"params": parameters[2:], "weight_decay": 0.1},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-2, weight_decay=0.0)
    norms = []
    with mended_optimizers() if is_mended else _without_the_first_update():
        wrapper = FP16_Optimizer(optimizer, low_precision_dtype=torch.bfloat16, clip_grad=clip, verbose=False)
        for step in range(5):
            for each in parameters[:3]:
                each.grad = torch.randn_like(each) * (10 if step % 2 else 0.01)
            if step == bad_step:
                parameters[0].grad = torch.full_like(parameters[0], float("nan"))
            wrapper.step()
            assert wrapper.overflow == (step == bad_step)
            norms.append(float(wrapper._global_grad_norm))
            assert all(each.grad is None for each in parameters)
    return [each.detach() for each in parameters], norms


@contextmanager
def _without_the_first_update() -> Iterator[None]:
    from deepspeed.runtime.fp16.fused_optimizer import FP16_Optimizer

    upstream = FP16_Optimizer.initialize_optimizer_states
    FP16_Optimizer.initialize_optimizer_states = lambda _: None
    try:
        yield
    finally:
        FP16_Optimizer.initialize_optimizer_states = upstream


@pytest.mark.parametrize("clip", [0.0, 1.0])
@pytest.mark.parametrize("bad_step", [-1, 2])
def test_update_in_one_pass_is_deepspeeds(clip: float, bad_step: int) -> None:
    weights, norms = _updated(clip, is_mended=True, bad_step=bad_step)
    expected, expected_norms = _updated(clip, is_mended=False, bad_step=bad_step)
    assert norms == pytest.approx(expected_norms, rel=1e-6)
    for one, other in zip(weights, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
