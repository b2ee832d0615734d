"""Reads JSON: one object a line, or one array of objects."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zpipe.data.refusals import Unusable
from zpipe.data.row import Row
from zpipe.data.sniffing import not_utf8, why_not_text

BOM = b"\xef\xbb\xbf"
ONE_A_LINE = "one JSON object per line, or one array of objects"


def json_rows(file: Path, budget: int | None) -> Iterator[Row]:
    """The objects of a file. Raises Unusable with the line of the first one that is malformed."""
    problem = why_not_text(file)
    if problem:
        raise Unusable(problem[0], fix=problem[1])
    with file.open("rb") as stream:
        head = stream.read(64).removeprefix(BOM).lstrip()
    if not head.startswith(b"["):
        yield from _line_rows(file, budget)
    elif budget is None or file.stat().st_size <= budget:
        yield from _array_rows(file)


def _line_rows(file: Path, budget: int | None) -> Iterator[Row]:
    with file.open("rb") as stream:
        left = budget
        number = 0
        while line := stream.readline(-1 if left is None else left + 1):
            if left is not None:
                left -= len(line)
                if left < 0:
                    return  # the line may be incomplete
            number += 1
            content = line.removeprefix(BOM) if number == 1 else line
            if content.strip():
                value = _object(_decoded(content, file, number), file, number)
                yield Row(value, value.keys(), f"line {number} of {file}")


def _decoded(line: bytes, file: Path, number: int) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        reason, fix = not_utf8(file, error, number)
        raise Unusable(reason, allowed="UTF-8", fix=fix) from None


def _object(line: str, file: Path, number: int) -> dict[str, Any]:
    place = f"line {number} of {file}"
    try:
        value = json.loads(line.rstrip("\r\n"))
    except json.JSONDecodeError as error:
        reason = f"{place} is not JSON: {error.msg} at column {error.colno}{_hint(file, number)}"
        raise Unusable(reason, allowed=ONE_A_LINE) from None
    except RecursionError:
        raise Unusable(f"{place} is nested too deeply", allowed=ONE_A_LINE) from None
    except ValueError as error:  # a number of more than 4,300 digits
        raise Unusable(f"{place} is not usable JSON: {_sentence(error)}", allowed=ONE_A_LINE) from None
    if not isinstance(value, dict):
        raise Unusable(f"{place} is not a JSON object but a {type(value).__name__}", allowed=ONE_A_LINE)
    return value


def _hint(file: Path, number: int) -> str:
    """For one object spread over several lines, which other tools call JSON too."""
    if number > 1:
        return ""
    with file.open("rb") as stream:
        first = stream.readline(4).strip().removeprefix(BOM)
    return f"; an object must stand on one line: jq -c . {file.name}" if first == b"{" else ""


def _array_rows(file: Path) -> Iterator[Row]:
    content = file.read_bytes().removeprefix(BOM)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        start = content.rfind(b"\n", 0, error.start) + 1
        in_line = UnicodeDecodeError("utf-8", content[start:], error.start - start, error.end - start, "")
        reason, fix = not_utf8(file, in_line, line)
        raise Unusable(reason, allowed="UTF-8", fix=fix) from None
    for number, value in enumerate(_array(text, file), start=1):
        place = f"row {number} of {file}"
        if not isinstance(value, dict):
            reason = f"{place} is not a JSON object but a {type(value).__name__}"
            raise Unusable(reason, allowed=ONE_A_LINE)
        yield Row(value, value.keys(), place)


def _array(text: str, file: Path) -> list[Any]:
    try:
        return list(json.loads(text))
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} of {file}"
        raise Unusable(
            f"{place} is not JSON: {error.msg} at column {error.colno}", allowed=ONE_A_LINE
        ) from None
    except RecursionError:
        raise Unusable(f"{file} is nested too deeply", allowed=ONE_A_LINE) from None
    except ValueError as error:
        raise Unusable(f"{file} is not usable JSON: {_sentence(error)}", allowed=ONE_A_LINE) from None


def _sentence(error: ValueError) -> str:
    return str(error).partition(";")[0]
