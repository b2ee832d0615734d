"""Overrides that mend the description of a machine."""

from collections.abc import Iterable, Mapping
from typing import Any

from zpipe.machine.cards import GROUP, HERE, card_named, described_by, option_named
from zpipe.plans.provenance import DEFAULT, Provenance
from zpipe.problems import Fix, either
from zpipe.schema.hardware import HardwareSettings
from zpipe.trees import flatten

OF_GPUS = ("name", "gpu_memory_gib", "compute_capability", "gpu_link_gb_s", "host_link_gb_s", "tflops.")
"""Beginnings of keys that mean nothing without a GPU."""
NUMBER = "gpus_per_node"
_EXAMPLE = "h100_80gb"


def given_values(settings: HardwareSettings) -> dict[str, Any]:
    """What is not null, by dotted keys."""
    return {key: value for key, value in flatten(settings.given()).items() if value != {}}


def number_of_gpus(values: Mapping[str, Any]) -> str:
    """Instead of an impossible number: that of this machine, or one for GPUs that are described."""
    given = {name: value for name, value in flatten(values).items() if value is not None}
    if not any(name.startswith(OF_GPUS) for name in given):
        return _set(NUMBER, "null")
    card = card_named(str(given.get("name", ""))) or HardwareSettings()
    is_known = all(
        given.get(name) or getattr(card, name) for name in ("gpu_memory_gib", "compute_capability")
    )
    number = _set(NUMBER, described_by(_EXAMPLE).gpus_per_node)
    return number if is_known else f"{GROUP}={_EXAMPLE} {number}"


def with_a_number(given: HardwareSettings) -> Fix:
    """For GPUs that are described without a number."""
    card = card_named(given.name or "") or HardwareSettings()
    memory = given.gpu_memory_gib or card.gpu_memory_gib
    if memory and (given.compute_capability or card.compute_capability):
        return either(_set(NUMBER, 1), _without_gpus(given))
    number = described_by(_EXAMPLE).gpus_per_node
    return either(f"{GROUP}={_EXAMPLE} {_set(NUMBER, number)}", _without_gpus(given))


def with_values(given: HardwareSettings, lacking: Iterable[str]) -> Fix:
    """For a number of GPUs of an unknown card: a card if nothing else is said of them, or else values."""
    values = [name for name in given_values(given) if name.startswith(OF_GPUS)]
    example = described_by(_EXAMPLE)
    missing = " ".join(_set(name, getattr(example, name)) for name in lacking)
    return either(missing if values else f"{GROUP}={_EXAMPLE}", _without_gpus(given))


def with_the_same_gpus(settings: HardwareSettings, key: str, count: int, option: str) -> Fix:
    """For GPUs that are described and requested, and differ: a request for the described ones."""
    described = option_named(settings.name) if settings.name else option
    number = count if settings.gpus_per_node is None else settings.gpus_per_node
    same = [f"{key}={number}x{described}"] if described and number else []
    if described == option:
        return either(*same, _set(NUMBER, count))
    return either(*same or [_without_gpus(settings)])


def undescribed(settings: HardwareSettings) -> str:
    """Overrides with which the machine is this one, whatever has described it."""
    return _nulls(given_values(settings))


def undescribed_by(provenance: Provenance) -> str:
    """The same, for values whose sources are known: a chosen option is replaced, and other keys are null."""
    choice = provenance.options.get(GROUP)
    option = [f"{GROUP}={HERE}"] if choice is not None and choice.option != HERE else []
    sources = (DEFAULT, choice.file if choice is not None else DEFAULT)
    keys = [key for key in provenance.experiment if key.startswith(f"{GROUP}.")]
    others = [f"{key}=null" for key in keys if provenance.experiment[key][-1].source not in sources]
    return " ".join((*option, *others))


def _without_gpus(given: HardwareSettings) -> str:
    return _nulls(name for name in given_values(given) if name.startswith((*OF_GPUS, NUMBER)))


def _nulls(names: Iterable[str]) -> str:
    return " ".join(f"{GROUP}.{name}=null" for name in names)


def _set(name: str, value: object) -> str:
    return f"{GROUP}.{name}={value}"
