"""`zpipe plan --explain auto`: the steps of transformers' guide to DeepSpeed, with the figures of this plan.

The guide goes from the fastest settings to those that need least memory, and stops at the first that fit.
Each step is predicted with a micro-batch of one sequence, as the guide tries it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from zpipe.facts.facts import Facts, gather, with_settings
from zpipe.machine.hardware import Hardware
from zpipe.memory.predict import predict_memory
from zpipe.memory.verdict import fits_of
from zpipe.plans.memory import Fit
from zpipe.plans.plan import Plan
from zpipe.schema.changed import changed
from zpipe.schema.experiment import Experiment
from zpipe.search.speed import tokens_per_second
from zpipe.search.workload import setup_of, workload_of

COLUMNS = ("step", "what is tried", "tokens/s", "GPU", "host", "result")
GIB = 2**30
_FIRST = ("batch.per_device_train_batch_size=1", "train.gradient_checkpointing=true")
_TRIED = {
    1: ("activation checkpointing, with a micro-batch of 1", ("stage=0", "offload=none")),
    2: ("ZeRO-2", ("stage=2", "offload=none")),
    3: ("ZeRO-2 with the optimizer on the host", ("stage=2", "offload=cpu_optimizer")),
    4: ("ZeRO-3", ("stage=3", "offload=none")),
    5: (
        "ZeRO-3 with parameters on the host",
        ("stage=3", "offload=none", "offload.offload_param.device=cpu"),
    ),
    6: ("ZeRO-3 with parameters and optimizer on the host", ("stage=3", "offload=cpu")),
    9: ("more hardware, or ZeRO-Infinity on NVMe", ("stage=3", "offload=nvme")),
}
_GENERATION = "smaller limits of generate: zpipe generates nothing while it trains"


@dataclass(frozen=True)
class Step:
    """One step of the guide."""

    number: int
    title: str
    overrides: tuple[str, ...] = ()
    fits: tuple[Fit, ...] = ()
    tokens_per_second: float | None = None
    text: str = ""


def guide(plan: Plan, here: Hardware) -> list[Step]:
    """The eleven steps, in their order."""
    facts = gather(plan.experiment, here)
    return sorted([*_tried(plan.experiment, facts), *_told(plan, facts)], key=lambda step: step.number)


def _tried(experiment: Experiment, facts: Facts) -> Iterator[Step]:
    for number, (title, overrides) in _TRIED.items():
        other = changed(experiment, (*_FIRST, "batch.gradient_accumulation_steps=null", *overrides))
        other = changed(other, ("batch.train_batch_size=null", "batch.global_batch_size=null"))
        own = with_settings(facts, other)
        prediction, work = predict_memory(other, own), workload_of(other, own)
        fits = () if prediction is None else tuple(fits_of(prediction, other, own))
        speed = None if work is None else tokens_per_second(work, setup_of(other, own))
        yield Step(number, title, overrides, fits, speed)


def _told(plan: Plan, facts: Facts) -> Iterator[Step]:
    yield Step(7, _GENERATION)
    yield Step(
        8, "half precision", text=f"{plan.precision} by precision.dtype={plan.experiment.precision.dtype}"
    )
    choice, work = plan.choice, workload_of(plan.experiment, facts)
    speed = None if work is None else tokens_per_second(work, setup_of(plan.experiment, facts))
    text = f"a micro-batch of {plan.micro_batch}, accumulated {plan.accumulation} times"
    yield Step(
        10, "the batch as large as fits", fits=tuple(plan.memory_fits), tokens_per_second=speed, text=text
    )
    yield Step(11, "the best balance", text="" if choice is None else choice.why)


def rows(steps: list[Step]) -> list[tuple[str, ...]]:
    """One row for each step, with `COLUMNS`."""
    return [
        (
            str(step.number),
            step.title,
            "" if step.tokens_per_second is None else f"{step.tokens_per_second:,.0f}",
            _gib(step, "GPU"),
            _gib(step, "host"),
            step.text or _result(step),
        )
        for step in steps
    ]


def _gib(step: Step, resource: str) -> str:
    return next((f"{fit.used / GIB:.1f} GiB" for fit in step.fits if fit.resource == resource), "")


def _result(step: Step) -> str:
    worst = [fit for verdict in ("does not fit", "tight") for fit in step.fits if fit.verdict == verdict]
    if not step.fits or not worst:
        return "fits" if step.fits else ""
    return f"{worst[0].verdict}: the {worst[0].resource} has {worst[0].limit / GIB:.1f} GiB"
