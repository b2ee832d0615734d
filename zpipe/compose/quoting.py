"""Quotes values that Hydra's grammar cannot read but whose key takes any text: paths, names, tags."""

from functools import cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from zpipe.hydra_text import quoted
from zpipe.schema.experiment import Experiment

HYDRA_TEXTS = (
    "hydra.run.dir",
    "hydra.sweep.dir",
    "hydra.sweep.subdir",
    "hydra.job.name",
    "hydra.output_subdir",
)
TEXT_MAPPINGS = ("launcher.env.", "tracking.tags.")


def takes_text(key: str) -> bool:
    """Whether any text is a valid type of value for this key."""
    plain = key.lstrip("+")
    return plain in HYDRA_TEXTS or plain.startswith(TEXT_MAPPINGS) or plain in _text_keys()


def as_text(override: str) -> str | None:
    """The override with its value quoted; None if the key does not take text, or the value may be a sweep."""
    key, equals, value = override.partition("=")
    if not equals or not value or not takes_text(key) or "," in value or value[:1] in "[{'\"":
        return None
    return f"{key}={quoted(value)}"


def quoted_forms(override: str) -> list[str]:
    """The override as one text and, if it has commas, as the values of a sweep."""
    key, _, value = override.partition("=")
    if not takes_text(key) or value[:1] in "[{'\"":
        return []
    several = ",".join(quoted(part) for part in value.split(","))
    return [f"{key}={quoted(value)}", *([f"{key}={several}"] if "," in value else [])]


@cache
def _text_keys() -> frozenset[str]:
    return frozenset(_texts_of(Experiment, ""))


def _texts_of(model: type[BaseModel], prefix: str) -> list[str]:
    found = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found += _texts_of(kind, f"{prefix}{name}.")
        elif _is_text(kind):
            found.append(f"{prefix}{name}")
    return found


def _is_text(kind: Any) -> bool:
    """Whether this is str, a str with conditions, or either of them and something else, such as None.

    A mapping counts too: it may be a text that Hydra has not read yet.
    """
    if get_origin(kind) in (Annotated, Union, UnionType):
        return any(map(_is_text, get_args(kind)))
    return kind is str or str in get_args(kind)
