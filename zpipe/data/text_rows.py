"""Reads text files, each as one example."""

from collections.abc import Iterator
from pathlib import Path

from zpipe.data.json_rows import BOM
from zpipe.data.refusals import Unusable
from zpipe.data.row import Row
from zpipe.data.sniffing import not_utf8, why_not_text


def text_rows(file: Path, budget: int | None) -> Iterator[Row]:
    """The whole file as one row; with a budget the lines that fit in it."""
    problem = why_not_text(file)
    if problem:
        raise Unusable(problem[0], fix=problem[1])
    with file.open("rb") as stream:
        content = stream.read(-1 if budget is None else budget).removeprefix(BOM)
        if stream.read(1):
            content = content[: content.rfind(b"\n") + 1]
    try:
        yield _row(content.decode("utf-8"), file)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        reason, fix = not_utf8(file, error, line)
        raise Unusable(reason, allowed="UTF-8", fix=fix) from None


def source_code_rows(file: Path, budget: int | None) -> Iterator[Row]:
    """A source file of the standard library: a few test files among them are not UTF-8."""
    yield _row(file.read_text(encoding="utf-8", errors="replace"), file)


def _row(text: str, file: Path) -> Row:
    return Row({"text": text}, ("text",), str(file))
