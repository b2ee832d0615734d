"""What `GROUP=auto` has chosen, as text for people."""

from collections.abc import Iterator
from typing import Any

from zpipe.plans.choice import AutoChoice, Candidate
from zpipe.plans.provenance import CHOSEN
from zpipe.terminal.units import size


def choice_lines(choice: AutoChoice) -> Iterator[str]:
    """The choice, then one line for each runner-up."""
    chosen = [each for each in choice.settings if each.reason == choice.why]
    values = " ".join(f"{each.key}={_shown(each.value)}" for each in chosen)
    yield f"{values}: {choice.why.removeprefix(CHOSEN)}"
    for each in choice.runners_up:
        yield f"next: {_differs(each)}: {figures(each)}"
    if choice.to_measure:
        count = f"{choice.to_measure} combinations" if choice.to_measure > 1 else "one combination"
        yield f"a run measures {count} before it starts, and chooses again"
    if choice.chosen is not None:
        too_large = f"{choice.too_large} of {choice.compared} are known not to fit"
        yield f"{too_large}, other rules refuse {choice.refused}" if choice.refused else too_large


def figures(candidate: Candidate) -> str:
    """`64,900 tokens/s, GPU 55.2 GiB allocated, host 12.0 GiB, mostly compute`."""
    parts = [_speed(candidate)]
    parts += [f"GPU {size(candidate.gpu_allocated)} allocated"] if candidate.gpu_allocated is not None else []
    parts += [f"host {size(candidate.host)}"] if candidate.host is not None else []
    return ", ".join([*parts, f"mostly {candidate.largest}"])


def _speed(candidate: Candidate) -> str:
    predicted, measured = f"{candidate.tokens_per_second:,.0f}", candidate.measured_tokens_per_second
    if measured is not None:
        return f"{measured:,.0f} tokens/s measured on {candidate.measured_on} ({predicted} predicted)"
    if candidate.probe_failed is not None:
        return f"failed on {candidate.measured_on}: {candidate.probe_failed} ({predicted} tokens/s predicted)"
    return f"{predicted} tokens/s"


def _differs(candidate: Candidate) -> str:
    return " ".join(f"{key}={_shown(value)}" for key, value in candidate.differs.items())


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)
