"""MLflow's limits on names and values. Longer values are shortened, and the full values go to an artifact.

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
"""Artifact with the full values of all shortened parameters and tags."""
METRIC_NAMES = "metric_names.json"
"""Artifact with the original names of the metrics that had to be renamed for MLflow."""

_METRICS_PER_REQUEST = 1000
_BYTES_PER_REQUEST = 800_000
"""MLflow allows 1,000,000 bytes of JSON; a non-ASCII character in it is escaped and takes six."""
_BYTES_PER_METRIC = 120
"""An upper bound for its JSON without the name."""
_REFUSED = re.compile(r"[^\w. :/-]")


def safe_name(key: str) -> str:
    """A name for a metric, parameter or tag that MLflow accepts; different keys get different names."""
    name = posixpath.normpath(_REFUSED.sub("_", key)).lstrip("./") or "_"
    if name == key and len(name) <= NAME_LENGTH:
        return name
    mark = hashlib.sha256(key.encode(errors="backslashreplace")).hexdigest()[:6]
    return f"{name[: NAME_LENGTH - 7]}-{mark}"


def param_value(text: str) -> str:
    """The text; if it is too long for a parameter, its beginning and the name of the artifact."""
    return _shortened(text, PARAM_LENGTH)


def tag_value(text: str) -> str:
    """The text; if it is too long for a tag, its beginning and the name of the artifact."""
    return _shortened(text, TAG_LENGTH)


def too_long(values: Mapping[str, str], most: int) -> dict[str, str]:
    """The values that have to be shortened."""
    return {key: value for key, value in values.items() if len(value) > most}


def batches_of(metrics: "Iterable[Metric]") -> "Iterator[list[Metric]]":
    """The metrics in batches; MLflow accepts each in one request."""
    batch: list[Metric] = []
    size = 0
    for metric in metrics:
        needed = _BYTES_PER_METRIC + len(json.dumps(metric.key))
        if batch and (size + needed > _BYTES_PER_REQUEST or len(batch) == _METRICS_PER_REQUEST):
            yield batch
            batch, size = [], 0
        batch.append(metric)
        size += needed
    if batch:
        yield batch


def _shortened(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    rest = f" … ({len(text):,} characters; full value in the artifact {WHOLE_VALUES})"
    return text[: most - len(rest)] + rest
