"""Reads the rows of data files one after the other. Raises Refusal at the first one that is damaged."""

from collections.abc import Callable, Iterator
from pathlib import Path

from zpipe.data.csv_rows import csv_rows
from zpipe.data.json_rows import json_rows
from zpipe.data.machine_errors import reraise_machine_error
from zpipe.data.refusals import Unusable, data_path_refusal
from zpipe.data.row import Row
from zpipe.data.sources import Reader, Source
from zpipe.data.tables import arrow_rows, parquet_rows
from zpipe.data.text_rows import source_code_rows, text_rows

READ: dict[Reader, Callable[[Path, int | None], Iterator[Row]]] = {
    "json": json_rows,
    "csv": csv_rows,
    "parquet": parquet_rows,
    "arrow": arrow_rows,
    "text": text_rows,
    "stdlib": source_code_rows,
}
"""A function per format: of a file, and of the bytes to read at most (None: all)."""


def read_rows(source: Source, budget: int | None = None) -> Iterator[Row]:
    """The rows of all files in order; with a budget it stops after about that many bytes.

    Text files are one row each. Raises Refusal with file and line for what cannot be read.
    """
    for file in source.files:
        try:
            yield from READ[source.reader](file, budget)
        except Unusable as bad:
            raise data_path_refusal(source.given, str(bad), allowed=bad.allowed, fix=bad.fix) from bad
        except Exception as error:
            reraise_machine_error(error)
            reason = f"{file} cannot be read: {_first_line(error)}"
            raise data_path_refusal(source.given, reason) from error
        if budget is not None:
            budget -= file.stat().st_size
            if budget <= 0:
                return


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
