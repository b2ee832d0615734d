"""The base class of the config groups, and types that several of them share."""

import re
from collections.abc import Collection
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

Auto = Literal["auto"]


class Group(BaseModel):
    """A frozen block of settings that refuses unknown keys."""

    # Validators are built on first use: planning needs only those of Experiment and Plan, and starts faster.
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        protected_namespaces=(),
        defer_build=True,
        allow_inf_nan=False,
    )

    def given(self, without: Collection[str] = ()) -> dict[str, Any]:
        """The settings that are not null, blocks as dicts; model_dump would build a serializer for each."""
        return {name: _plain(value) for name, value in self if value is not None and name not in without}


def _plain(value: Any) -> Any:
    if isinstance(value, Group):
        return value.given()
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return {name: _plain(each) for name, each in value.items()} if isinstance(value, dict) else value


def _number_from_text(value: Any) -> Any:
    """YAML 1.1 reads `5e7` as text, but it is meant as a number."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    if isinstance(value, bool):
        raise ValueError("expected a number, not true or false")
    return value


LARGEST = 2**63 - 1


def _of_64_bits(value: int) -> int:
    """Larger numbers overflow in range(), in torch and in JSON readers."""
    if abs(value) > LARGEST:
        raise ValueError(f"expected at most {LARGEST}")
    return value


Count = Annotated[int, BeforeValidator(_number_from_text), AfterValidator(_of_64_bits)]
"""An integer; `5e7` is accepted."""

Number = Annotated[float, BeforeValidator(_number_from_text)]
"""A real number."""


_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")


def seconds_from_text(value: Any) -> Any:
    """`3h50m` in seconds; other values are left as they are."""
    match = _DURATION.fullmatch(value) if isinstance(value, str) and value else None
    if match is None:
        return value
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _no_from_false(value: Any) -> Any:
    """YAML 1.1 reads a bare `no` as false."""
    return "no" if value is False else value


Interval = Annotated[Literal["no", "steps", "epoch"], BeforeValidator(_no_from_false)]
"""How often something is done, or `no` for never."""


def _texts(value: Any) -> Any:
    """Hydra reads `launcher.env.X=1` as a number, but variables and tags are text."""
    if not isinstance(value, dict):
        return value
    return {name: _text(each) for name, each in value.items()}


def _text(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


Texts = Annotated[dict[str, str], BeforeValidator(_texts)]
"""A mapping of names to text; numbers and booleans become text."""


def defaults_of(group: type[Group]) -> dict[str, Any]:
    """Every key of the group with its default, nested groups as dicts; builds no validator."""
    values: dict[str, Any] = {}
    for name, field in group.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, Group):
            values[name] = defaults_of(inner)
        else:
            values[name] = field.get_default(call_default_factory=True)
    return values
