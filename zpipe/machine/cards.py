"""The options of the group `hardware`, one YAML file each in conf/hardware: the only table of GPUs."""

import re
from collections.abc import Iterable
from functools import cache

import yaml

from zpipe.machine.card_names import counted, nearest_cards
from zpipe.problems import Problem, Refusal, either
from zpipe.resources import CONF, config_groups
from zpipe.schema.hardware import MOST_GPUS, HardwareSettings

GROUP = "hardware"
HERE = "here"
"""The option that describes nothing."""
_REQUEST = re.compile(r"(?P<count>[1-9]\d{0,3})\s*[x*]\s*(?P<name>[\w-]+)", re.IGNORECASE | re.ASCII)
_EXAMPLE = "8xH100"


@cache
def described_by(option: str) -> HardwareSettings:
    """The machine that one of zpipe's own options describes."""
    text = (CONF / GROUP / f"{option}.yaml").read_text(encoding="utf-8")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return HardwareSettings.model_validate(yaml.load(text, Loader=loader) or {})  # noqa: S506 - a safe one


def card_named(name: str) -> HardwareSettings | None:
    """What is known of the GPUs with this name, as NVML tells it; None for an unknown card."""
    option = option_named(name)
    return None if option is None else described_by(option)


@cache
def option_named(name: str) -> str | None:
    """The option whose GPUs have this name.

    Only files whose own name has nothing but words of the card are read.
    """
    words = set(_normal(name).split("_"))
    candidates = [option for option in machine_kinds() if words.issuperset(option.split("_"))]
    return next((option for option in candidates if described_by(option).name == name), None)


def machine_kinds() -> list[str]:
    """The options that describe a machine."""
    return [option for option in config_groups()[GROUP] if option != HERE]


def count_and_option(request: str, key: str, given_as: str) -> tuple[int, str]:
    """The number of GPUs and the option of a request such as `8xH100`.

    Raises Refusal with the key. `given_as` is what stands before a request: `--gpus ` or `KEY=`.
    """
    match = _REQUEST.fullmatch(request.strip())
    options = _options_of(match["name"]) if match else []
    if match is not None and len(options) == 1 and int(match["count"]) <= MOST_GPUS:
        return int(match["count"]), options[0]
    allowed = f"COUNTxNAME with one of {', '.join(machine_kinds())}"
    if match is None:
        reason = "not a number of GPUs and a name"
    elif len(options) > 1:
        reason, allowed = "there are several of this name", " or ".join(options)
    else:
        reason = "more GPUs than any machine has" if options else "no such GPU"
    fix = either(*(f"{given_as}{each}" for each in _nearest_requests(request)))
    raise Refusal([Problem(key, request, reason, allowed, fix)])


def described_as(text: str, options: Iterable[str]) -> list[str]:
    """Overrides that describe the machine of a text such as `8xA100`, with the options of the group."""
    count, name = counted(text)
    number = f" hardware.gpus_per_node={count}" if count is not None and count <= MOST_GPUS else ""
    return [f"{GROUP}={option}{number}" for option in nearest_cards(name, options)]


def _nearest_requests(request: str) -> list[str]:
    count, name = counted(request)
    number = 8 if count is None or count > MOST_GPUS else count
    return [f"{number}x{option}" for option in nearest_cards(name, machine_kinds())] or [_EXAMPLE]


def _options_of(name: str) -> list[str]:
    """The option of this name, or else those that add the size of the memory to it: H100 is h100_80gb."""
    normal, kinds = _normal(name), machine_kinds()
    if normal in kinds:
        return [normal]
    return [kind for kind in kinds if re.fullmatch(rf"{re.escape(normal)}_\d+gb", kind)]


def _normal(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower())
