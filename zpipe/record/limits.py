"""MLflow's limits on names and values, and what becomes of what exceeds them: shortened, said so, kept whole.

Sources: mlflow/utils/validation.py (names, lengths, entries and bytes of a request). MLflow refuses a whole
batch for a single bad name.
"""

import hashlib
import json
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow.entities import Metric

NAME_LENGTH = 250
PARAM_LENGTH = 6000
TAG_LENGTH = 8000
WHOLE_VALUES = "whole_values.json"
"""Artifact with every parameter and tag that MLflow's fields were too short for."""
METRIC_NAMES = "metric_names.json"
"""Artifact with the metrics that MLflow does not take under their own names."""

_METRICS_A_REQUEST = 1000
_BYTES_A_REQUEST = 800_000
"""MLflow allows 1,000,000 bytes of JSON, in which a letter beyond ASCII takes six."""
_BYTES_A_METRIC = 120
"""Without its name."""
_REFUSED = re.compile(r"[^\w. :/-]")


def safe_name(key: str) -> str:
    """A name for a metric, parameter or tag that MLflow takes; different keys get different names."""
    name = posixpath.normpath(_REFUSED.sub("_", key)).lstrip("./") or "_"
    if name == key and len(name) <= NAME_LENGTH:
        return name
    mark = hashlib.sha256(key.encode(errors="backslashreplace")).hexdigest()[:6]
    return f"{name[: NAME_LENGTH - 7]}-{mark}"


def param_value(text: str) -> str:
    """The text, or as much of it as a parameter holds and where to find the rest."""
    return _fitted(text, PARAM_LENGTH)


def tag_value(text: str) -> str:
    """The text, or as much of it as a tag holds and where to find the rest."""
    return _fitted(text, TAG_LENGTH)


def too_long(values: Mapping[str, str], most: int) -> dict[str, str]:
    """Those of the values that have to be shortened."""
    return {key: value for key, value in values.items() if len(value) > most}


def requests_of(metrics: "Iterable[Metric]") -> "Iterator[list[Metric]]":
    """The metrics in portions that MLflow takes in one request each."""
    portion: list[Metric] = []
    size = 0
    for metric in metrics:
        needed = _BYTES_A_METRIC + len(json.dumps(metric.key))
        if portion and (size + needed > _BYTES_A_REQUEST or len(portion) == _METRICS_A_REQUEST):
            yield portion
            portion, size = [], 0
        portion.append(metric)
        size += needed
    if portion:
        yield portion


def _fitted(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    rest = f" … ({len(text):,} characters; whole in the artifact {WHOLE_VALUES})"
    return text[: most - len(rest)] + rest
