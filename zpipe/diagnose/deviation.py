"""After a run that ran out of memory: which part of the prediction was most likely too low."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from zpipe.diagnose.evidence import Evidence
from zpipe.diagnose.root_cause import root_error
from zpipe.plans.memory import Fit, GpuMemory, HostMemory, Term
from zpipe.plans.plan import Plan
from zpipe.runfolder.outcome import Ending
from zpipe.runfolder.progress import RunProgress
from zpipe.terminal.units import size

_NAMED = 2
"""Terms."""
_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_AMOUNT = r"([\d.]+) (bytes|KiB|MiB|GiB)"
_ASKED = re.compile(rf"Tried to allocate {_AMOUNT}")
_ALLOCATED = re.compile(rf"{_AMOUNT} is allocated by PyTorch")
_UNALLOCATED = re.compile(rf"{_AMOUNT} is reserved by PyTorch but unallocated")
"""Of the message of torch.OutOfMemoryError (c10/cuda/CUDACachingAllocator.cpp)."""

_STATES = re.compile(r"param|weight|gradient|master|optimizer|state", re.IGNORECASE)
_OF_A_BATCH = re.compile(r"activation|logit|loss|attention|checkpoint|recompute|bucket|gather", re.IGNORECASE)


@dataclass(frozen=True)
class _Moment:
    """When the memory ran out, and what is allocated then."""

    when: str
    what: str
    terms: re.Pattern[str] | None
    """Names of terms; None are those of the allocator's cache."""


_LOADING = _Moment("before the first step", "model states", _STATES)
_FIRST = _Moment("in the first step of the attempt", "activations and logits", _OF_A_BATCH)
_LATER = _Moment("after steps that had fit", "fragmentation of the allocator's memory", None)
_FRAGMENTED = _Moment("beside more unused memory than was asked for", _LATER.what, None)
_EVALUATION = _Moment("in an evaluation", "the batch of the evaluation and its logits", _OF_A_BATCH)
_SAVING = _Moment("while saving", "the weights that are gathered to be saved", _STATES)


def deviation(plan: Plan, ending: Ending, evidence: Evidence) -> Iterator[str]:
    """What was predicted, what is known about the end, and what is most likely off, a sentence each.

    Nothing for other endings, and without a prediction.
    """
    memory = plan.memory
    if memory is None:
        return
    if ending == "gpu_out_of_memory" and memory.gpu is not None:
        yield _predicted("The GPU", memory.gpu.used, plan.fit_of("GPU"), memory.error_of("GPU"))
        yield from _on_the_gpu(memory.gpu, memory.band, evidence)
    elif ending == "host_out_of_memory" and memory.host is not None:
        yield _predicted("The host", memory.host.node, plan.fit_of("host"), memory.error_of("host"))
        yield from _on_the_host(memory.host, memory.band, evidence)


def _predicted(what: str, used: int, fit: Fit | None, error: str) -> str:
    there = "" if fit is None else f" of {size(fit.limit)} that were there: {fit.verdict}"
    return f"{what} was predicted to need {size(used)} ({error}){there}."


def _on_the_gpu(memory: GpuMemory, band: float, evidence: Evidence) -> Iterator[str]:
    error = root_error(evidence)
    message = "" if error is None else error.message
    allocated, unused, asked = (_bytes(each, message) for each in (_ALLOCATED, _UNALLOCATED, _ASKED))
    if allocated is not None and asked is not None:
        beside = "" if unused is None else f" and held {size(unused)} that it did not use"
        yield f"At the end PyTorch had allocated {size(allocated)}{beside}, and asked for {size(asked)} more."
        if allocated + (unused or 0) + asked <= memory.reserved * (1 - band):
            yield (
                "That is less than was predicted: the GPU had less free memory than the plan knew, such as "
                "because of another process."
            )
            return
        if unused is not None and unused >= asked:
            yield from _conclusion(_FRAGMENTED, evidence.progress, memory.cache.terms)
            return
    moment = _moment(evidence.progress)
    terms = memory.cache.terms if moment.terms is None else memory.allocated.terms
    yield from _conclusion(moment, evidence.progress, terms)


def _on_the_host(memory: HostMemory, band: float, evidence: Evidence) -> Iterator[str]:
    peak = max((sample.workers for sample in evidence.samples), default=0)
    terms = [*memory.rank.terms, *memory.shared.terms]
    if peak:
        yield f"All workers together had at most {size(peak)} resident."
        if peak <= memory.node * (1 - band):
            yield (
                "That is less than was predicted: other processes of the machine used the rest, or the last "
                "allocation was too large to be seen."
            )
            return
    moment = _moment(evidence.progress)
    if moment is _LATER:
        yield (
            f"It ran out {moment.when}: memory that grows is not predicted, such as that of data loaders or "
            "of a checkpoint that is written in the background."
        )
        return
    yield from _conclusion(moment, evidence.progress, terms)


def _conclusion(moment: _Moment, progress: RunProgress, terms: Sequence[Term]) -> Iterator[str]:
    fitting = [each for each in terms if moment.terms is None or moment.terms.search(each.name)]
    largest = sorted(fitting, key=lambda term: term.bytes, reverse=True)[:_NAMED]
    named = ", ".join(f"{term.name} {size(term.bytes)}" for term in largest)
    predicted = f"; predicted were {named}" if named else ""
    step = f" (step {progress.step + 1})" if progress.has_engine else ""
    yield f"It ran out {moment.when}{step}: most likely off is the figure for {moment.what}{predicted}."


def _moment(progress: RunProgress) -> _Moment:
    match progress.phase:
        case "evaluate":
            return _EVALUATION
        case "save":
            return _SAVING
        case "train" if progress.has_engine:
            return _LATER if progress.step > progress.first_step else _FIRST
        case _:
            return _LOADING


def _bytes(pattern: re.Pattern[str], message: str) -> int | None:
    match = pattern.search(message)
    return None if match is None else round(float(match[1]) * _UNITS[match[2]])
