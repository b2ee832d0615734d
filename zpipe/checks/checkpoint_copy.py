"""Checkpoints that are written in the background need a copy in host memory."""

from collections.abc import Iterator

from humanize import naturalsize

from zpipe.facts.facts import Facts
from zpipe.memory.checkpoint_copy import CopyNeed, copy_need
from zpipe.plans.plan import Notice
from zpipe.problems import Problem, either
from zpipe.schema.experiment import Experiment

_KEY = "checkpoint.async_save"


def a_copy_fits_into_host_memory(experiment: Experiment, facts: Facts) -> Iterator[Problem]:
    """The copy would be refused by the machine, or end the run."""
    need = copy_need(experiment, facts)
    if experiment.checkpoint.async_save is True and need is not None and not need.fits:
        yield Problem(_KEY, True, _numbers(need), "auto, false", either(f"{_KEY}=auto"))


def note_checkpoints_in_the_foreground(experiment: Experiment, facts: Facts) -> Iterator[Notice]:
    """auto decides by the memory."""
    need = copy_need(experiment, facts)
    if experiment.checkpoint.async_save == "auto" and need is not None and not need.fits:
        text = f"the training will wait for its checkpoints: {_numbers(need)}"
        yield Notice(level="info", key=_KEY, text=text)


def _numbers(need: CopyNeed) -> str:
    copy, beside, memory = (naturalsize(n, binary=True) for n in (need.copy, need.beside, need.memory))
    return (
        f"a copy of a checkpoint takes {copy} of host memory, beside {beside} that the training has there, "
        f"and this machine has {memory}"
    )


ERRORS = (a_copy_fits_into_host_memory,)
NOTICES = (note_checkpoints_in_the_foreground,)
