"""What the data itself tells before anything is started: its first rows, read and checked without torch."""

import platform
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from typing import Any, Literal, NamedTuple

from zpipe.data.csv_rows import SEPARATORS, separator_of
from zpipe.data.examples import example_of
from zpipe.data.fingerprint import fingerprint
from zpipe.data.layouts import choose_layout, columns_left_out
from zpipe.data.messages import Conversation
from zpipe.data.refusals import data_path_refusal, nothing_to_learn
from zpipe.data.rows import read_rows
from zpipe.data.sources import Source, local_source, require_train
from zpipe.problems import Problem, Refusal
from zpipe.schema.data import Data

BUDGET = 8 * 2**20
"""Bytes of the data that a plan reads, which takes about a tenth of a second. The worker reads all of it."""
SHOWN = 8
"""Names in a remark."""


class Remark(NamedTuple):
    """Something about the data that the user should know."""

    level: Literal["warning", "info"]
    key: str
    text: str


class Inspection(NamedTuple):
    """What the plan knows about the data. Of a data set of the hub it knows nothing."""

    problems: tuple[Problem, ...] = ()
    remarks: tuple[Remark, ...] = ()
    layout: str | None = None
    """A key of LAYOUTS."""
    fingerprint: str | None = None
    """From which a run that goes on sees that the data has changed."""


def inspect(data: Data) -> Inspection:
    """Reads the start of local data. Data that has not changed is read once per process."""
    try:
        if data.source == "python_stdlib":  # listing its files takes longer than the rest of a plan
            require_train(data, "Python's standard library has no splits")
            version = f"Python {platform.python_version()}"
            return Inspection(layout=choose_layout(data, ("text",)), fingerprint=version)
        source = local_source(data)
        if source is None:
            return Inspection()
        stamp = tuple(tuple(each) for each in source.stamp())
        return _inspected(source, _relevant(data), stamp)
    except Refusal as refusal:
        return Inspection(problems=refusal.problems)


def _relevant(data: Data) -> Data:
    """Without the settings that do not change what is found."""
    kept = ("path", "columns", "max_samples", "completion_only")
    return Data(**{name: getattr(data, name) for name in kept})


@lru_cache(maxsize=32)
def _inspected(source: Source, data: Data, stamp: tuple[Any, ...]) -> Inspection:
    found = _Found()
    try:
        for row in islice(read_rows(source, BUDGET), data.max_samples):
            found.layout = found.layout or choose_layout(data, row.columns)
            found.columns.update(dict.fromkeys(row.columns))
            found.rows += 1
            example = example_of(row, found.layout, data)
            found.examples += example is not None
            found.has_messages = found.has_messages or isinstance(example, Conversation)
            found.learned += example is not None and _has_reply(example, data)
        if sum(size for _, size, _ in stamp) <= BUDGET:
            _require_something(found, data)
    except Refusal as refusal:
        return Inspection(problems=refusal.problems)
    return Inspection((), tuple(_remarks(source, found)), found.layout, _fingerprint(source))


def _fingerprint(source: Source) -> str | None:
    """None for files that cannot be read any more: the worker says so."""
    try:
        return fingerprint(source.files)
    except OSError:
        return None


class _Found:
    def __init__(self) -> None:
        self.layout: str | None = None
        self.columns: dict[str, None] = {}
        self.has_messages = False
        self.rows = self.examples = self.learned = 0


def _has_reply(example: object, data: Data) -> bool:
    if not isinstance(example, Conversation) or not data.completion_only:
        return True
    pairs = zip(example.messages, example.learned, strict=True)
    return any(learned and message["role"] == "assistant" for message, learned in pairs)


def _require_something(found: _Found, data: Data) -> None:
    if found.rows == 0:
        raise data_path_refusal(data.path, "it contains no examples")
    if found.examples == 0:
        raise data_path_refusal(data.path, "it contains no text")
    if found.learned == 0:
        raise nothing_to_learn(data)


def _remarks(source: Source, found: _Found) -> Iterator[Remark]:
    if source.left_out:
        names = _listed([file.name for file in source.left_out])
        text = f"files of other splits are left out: {names}; data.split chooses the split"
        yield Remark("warning", "data.path", text)
    if source.other_folders:
        names = _listed([str(folder) for folder in source.other_folders])
        yield Remark("info", "data.path", f"folders of runs, sweeps and models are left out: {names}")
    separators = {separator_of(file) for file in source.files[:SHOWN] if file.suffix.lower() == ".csv"}
    for separator in separators - {","}:
        yield Remark("info", "data.path", f"{SEPARATORS[separator]} separates the cells")
    if found.layout is not None:
        serious, others = columns_left_out(found.layout, found.has_messages, found.columns)
        if serious:
            yield Remark("warning", "data.path", f"zpipe does not read these columns: {_listed(serious)}")
        if others:
            yield Remark("info", "data.path", f"columns left out: {_listed(others)}")
    if found.rows > found.examples:
        text = f"{found.rows - found.examples} of the first {found.rows} rows have no text and are left out"
        yield Remark("info", "data.path", text)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
