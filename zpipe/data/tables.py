"""Reads Parquet and Arrow files, only the columns that zpipe uses."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zpipe.data.refusals import Unusable
from zpipe.data.row import USED_COLUMNS, Row
from zpipe.data.sniffing import why_no_table

ROWS_PER_BATCH = 256
INDEX = "__index_level_"
"""The start of the names that pandas gives its index."""


def parquet_rows(file: Path, budget: int | None) -> Iterator[Row]:
    """The rows of a Parquet file."""
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    _require(file, "parquet")
    with pq.ParquetFile(str(file)) as table:
        names = _names(table.schema_arrow)
        used = [name for name in names if name in USED_COLUMNS]
        batches = table.iter_batches(ROWS_PER_BATCH, columns=used)
        yield from _rows(batches, names, file, budget)


def arrow_rows(file: Path, budget: int | None) -> Iterator[Row]:
    """The rows of an Arrow file, in the format of a stream (as `datasets` writes it) or of a file."""
    import pyarrow as pa

    _require(file, "arrow")
    with pa.memory_map(str(file)) as memory:
        is_file = memory.read(6) == b"ARROW1"
        memory.seek(0)
        reader = pa.ipc.open_file(memory) if is_file else pa.ipc.open_stream(memory)
        count = reader.num_record_batches if is_file else None
        batches = (reader.get_batch(index) for index in range(count)) if count is not None else iter(reader)
        names = _names(reader.schema)
        yield from _rows(_used(batches, names), names, file, budget)


def _require(file: Path, kind: str) -> None:
    reason = why_no_table(file, kind)
    if reason:
        raise Unusable(reason)


def _names(schema: Any) -> list[str]:
    return [name for name in schema.names if not name.startswith(INDEX)]


def _used(batches: Iterator[Any], names: list[str]) -> Iterator[Any]:
    """The used columns in slices. Each batch is checked: its offsets point into mapped memory."""
    for batch in batches:
        batch.validate(full=True)
        used = batch.select([name for name in names if name in USED_COLUMNS])
        for start in range(0, max(1, used.num_rows), ROWS_PER_BATCH):
            yield used.slice(start, ROWS_PER_BATCH)


def _rows(batches: Iterator[Any], names: list[str], file: Path, budget: int | None) -> Iterator[Row]:
    number = 0
    for batch in batches:
        for values in batch.to_pylist():
            number += 1
            cells = {name: without_nulls(value) for name, value in values.items()}
            yield Row(cells, names, f"row {number} of {file}")
        if budget is not None:
            budget -= batch.nbytes
            if budget < 0:
                return


def without_nulls(value: Any) -> Any:
    """Without the nulls inside: the rows of a table have one type, so a key of one is in all of them."""
    if isinstance(value, dict):
        return {key: without_nulls(each) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [without_nulls(each) for each in value]
    return value
