"""Reads a data set of the hub, with the library `datasets`."""

from collections.abc import Iterator
from typing import Any

from zpipe.data.machine_errors import reraise_machine_error
from zpipe.data.refusals import data_path_refusal
from zpipe.data.row import USED_COLUMNS, Row
from zpipe.data.tables import ROWS_PER_BATCH, without_nulls
from zpipe.schema.data import Data
from zpipe.train.refusals import hub_message


def load_hub(data: Data) -> Any:
    """The data set as a `datasets.Dataset`; raises Refusal if it cannot be loaded."""
    import datasets

    try:
        return datasets.load_dataset(data.path, split=data.split)
    except Exception as error:
        reraise_machine_error(error)
        raise data_path_refusal(
            data.path,
            "it is not a local file or folder, and the data set of this name cannot be loaded from the hub "
            f"({type(error).__name__}: {hub_message(error)})",
        ) from error


def hub_rows(dataset: Any, data: Data) -> Iterator[Row]:
    """Its rows, with the columns that zpipe uses."""
    names = list(dataset.column_names)
    used = [name for name in names if name in USED_COLUMNS]
    number = 0
    for batch in dataset.select_columns(used).iter(ROWS_PER_BATCH):
        for cells in zip(*batch.values(), strict=True):
            number += 1
            values = {name: without_nulls(cell) for name, cell in zip(batch, cells, strict=True)}
            yield Row(values, names, f"row {number} of {data.path}")
