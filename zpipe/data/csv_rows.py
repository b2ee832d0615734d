"""Reads CSV and TSV: every cell is text, and every row has as many cells as the header."""

import csv
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from zpipe.data.json_rows import BOM
from zpipe.data.layouts import LAYOUTS
from zpipe.data.refusals import Unusable
from zpipe.data.row import USED_COLUMNS, Row
from zpipe.data.sniffing import not_utf8, why_not_text

SEPARATORS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}
csv.field_size_limit(sys.maxsize)


class _Enough(Exception):
    """The budget of bytes is used up."""


def csv_rows(file: Path, budget: int | None) -> Iterator[Row]:
    """The rows below the header, without blank lines. Raises Unusable with the line of a malformed row."""
    problem = why_not_text(file)
    if problem:
        raise Unusable(problem[0], fix=problem[1])
    separator = separator_of(file)
    with file.open("rb") as stream:
        reader = csv.reader(_lines(stream, file, budget), delimiter=separator, strict=True)
        try:
            header = _header(next(reader, []), file, separator)
            for cells in reader:
                if not cells:
                    continue
                place = f"line {reader.line_num} of {file}"
                _require_cells(cells, header, place, separator)
                yield Row(dict(zip(header, cells, strict=True)), header, place)
        except csv.Error as error:
            raise Unusable(f"line {reader.line_num} of {file} is not CSV: {error}") from None
        except _Enough:
            return


def separator_of(file: Path) -> str:
    """What separates the cells: the first separator with which the header has the columns of a layout."""
    if file.suffix.lower() == ".tsv":
        return "\t"
    with file.open("rb") as stream:
        header = stream.readline(1 << 16).removeprefix(BOM).decode("utf-8", "replace").strip("\r\n")
    for separator in SEPARATORS:
        names = set(next(csv.reader([header], delimiter=separator), []))
        if any(names.issuperset(needed) for needed in LAYOUTS.values()):
            return separator
    return ","


def _lines(stream: BinaryIO, file: Path, budget: int | None) -> Iterator[str]:
    for number, line in enumerate(stream, start=1):
        if budget is not None:
            budget -= len(line)
            if budget < 0:
                raise _Enough
        try:
            yield (line.removeprefix(BOM) if number == 1 else line).decode("utf-8")
        except UnicodeDecodeError as error:
            reason, fix = not_utf8(file, error, number)
            raise Unusable(reason, allowed="UTF-8", fix=fix) from None


def _header(names: list[str], file: Path, separator: str) -> list[str]:
    twice = [name for name, count in Counter(names).items() if count > 1 and name in USED_COLUMNS]
    if twice:
        reason = f"the header of {file} has the column {twice[0]} twice"
        raise Unusable(reason, allowed="each column once")
    return names


def _require_cells(cells: list[str], header: list[str], place: str, separator: str) -> None:
    if len(cells) == len(header):
        return
    reason = f"{place} has {_count(len(cells))}, and the header has {len(header)}"
    allowed = f"cells separated by {SEPARATORS[separator]}; a cell that contains one is quoted"
    raise Unusable(reason, allowed=allowed)


def _count(cells: int) -> str:
    return "1 cell" if cells == 1 else f"{cells} cells"
