"""A run that has become longer goes on at the learning rate of its new schedule."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import ConstantLR, LambdaLR
from transformers import get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

from zpipe.train.schedule import apply_schedule

Scheduler = Any
POSITION, LONGER = 6, 20


def linear(optimizer: torch.optim.Optimizer, steps: int) -> Scheduler:
    return get_linear_schedule_with_warmup(optimizer, 2, steps)


def cosine(optimizer: torch.optim.Optimizer, steps: int) -> Scheduler:
    return get_cosine_schedule_with_warmup(optimizer, 2, steps)


def warmup_decay(optimizer: torch.optim.Optimizer, steps: int) -> Scheduler:
    from deepspeed.runtime.lr_schedules import WarmupDecayLR

    return WarmupDecayLR(optimizer, total_num_steps=steps, warmup_num_steps=2, warmup_max_lr=0.1)


def one_cycle(optimizer: torch.optim.Optimizer, steps: int) -> Scheduler:
    from deepspeed.runtime.lr_schedules import OneCycle

    half = steps // 2
    return OneCycle(optimizer, cycle_min_lr=0.01, cycle_max_lr=0.1, cycle_first_step_size=half)


def two_groups() -> torch.optim.Optimizer:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in (0.1, 0.2)]
    return torch.optim.AdamW(groups)


def at(make: Callable[..., Scheduler], steps: int) -> tuple[torch.optim.Optimizer, Scheduler]:
    optimizer = two_groups()
    scheduler = make(optimizer, steps)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no optimizer steps are needed here
        for _ in range(POSITION):
            scheduler.step()
    return optimizer, scheduler


def rates(optimizer: torch.optim.Optimizer) -> list[float]:
    return [group["lr"] for group in optimizer.param_groups]


@pytest.mark.parametrize("make", [linear, cosine, warmup_decay, one_cycle])
@pytest.mark.parametrize("steps", [POSITION, LONGER])
def test_loaded_schedule_has_the_rates_of_its_new_length(make: Callable[..., Scheduler], steps: int) -> None:
    ended, saved = at(make, POSITION)
    expected, _ = at(make, steps)
    optimizer = two_groups()
    scheduler = make(optimizer, steps)
    scheduler.load_state_dict(saved.state_dict())
    optimizer.load_state_dict(ended.state_dict())
    apply_schedule(scheduler)
    assert rates(optimizer) == rates(expected)
    if isinstance(scheduler, LambdaLR):
        assert scheduler.get_last_lr() == rates(expected)


def test_schedule_without_a_length_keeps_what_was_loaded() -> None:
    optimizer = two_groups()
    apply_schedule(ConstantLR(optimizer, factor=1.0))
    assert rates(optimizer) == [0.1, 0.2]
