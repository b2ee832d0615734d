"""The learning rate of the first step after loading, from the schedule of this attempt."""

from typing import Any

from torch.optim.lr_scheduler import LambdaLR


def apply_schedule(scheduler: Any) -> None:
    """Sets the learning rates that a loaded scheduler has for its position.

    Loading restores the rates of the schedule that was saved. If the run has become longer since, its first
    step would use the last rate of the shorter schedule, which is often 0. A schedule of the same length
    computes the same rates again. torch's other schedulers do not depend on a length.
    """
    if isinstance(scheduler, LambdaLR):
        position = scheduler.last_epoch
        factors = zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True)
        rates = [rate * factor(position) for rate, factor in factors]
        for group, rate in zip(scheduler.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        scheduler._last_lr = rates
    elif getattr(scheduler, "last_batch_iteration", -1) >= 0:  # DeepSpeed's
        scheduler.step(scheduler.last_batch_iteration)
