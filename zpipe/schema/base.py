"""What every group of the schema shares."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict

Auto = Literal["auto"]


class Group(BaseModel):
    """A frozen block of settings that knows each of its keys and refuses any other."""

    # Validators are built on first use: planning needs the experiment's and the plan's, and starts sooner.
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        protected_namespaces=(),
        defer_build=True,
        allow_inf_nan=False,
    )


def _whole(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a number is expected, not true or false")
    return value


def _number_from_text(value: Any) -> Any:
    """YAML 1.1 reads `5e7` as text; a count given that way is a number all the same."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return _whole(value)


Count = Annotated[int, BeforeValidator(_number_from_text)]
"""A whole number; `5e7` is one."""

Number = Annotated[float, BeforeValidator(_number_from_text)]
"""A real number."""


def _texts(value: Any) -> Any:
    """Hydra reads `launcher.env.X=1` as a number; a variable or a tag is text all the same."""
    if not isinstance(value, dict):
        return value
    return {name: _text(each) for name, each in value.items()}


def _text(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


Texts = Annotated[dict[str, str], BeforeValidator(_texts)]
"""Names and texts; numbers and truth values become texts."""


def defaults_of(group: type[Group]) -> dict[str, Any]:
    """Every key of the group with its default, inner groups as dicts, without building any validator."""
    values: dict[str, Any] = {}
    for name, field in group.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, Group):
            values[name] = defaults_of(inner)
        else:
            values[name] = field.get_default(call_default_factory=True)
    return values
