"""What zpipe mends in DeepSpeed's optimizers."""

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
