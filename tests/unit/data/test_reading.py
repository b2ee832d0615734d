"""Reading of data files: the named file only, and its text unchanged."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import datasets
import pytest

from tests.support.training_data import decoded, packed, write_jsonl
from zpipe.data import rows as reading
from zpipe.data.rows import read_rows
from zpipe.data.sources import local_source
from zpipe.schema.data import Data


def write_texts(path: Path, *texts: str) -> Path:
    return Path(write_jsonl(path, [{"text": text} for text in texts]))


def column(path: Path, name: str = "text") -> list[Any]:
    """The values of a column as read from the file or folder."""
    data = Data(path=str(path))
    source = local_source(data)
    assert source is not None
    return [row.values[name] for row in read_rows(source)]


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "parquet", "txt"])
def test_every_file_type_gives_the_same_ids(tokenizer: Any, tmp_path: Path, suffix: str) -> None:
    text = "the same text in every format, long enough"
    path = tmp_path / f"a.{suffix}"
    table = datasets.Dataset.from_dict({"text": [text]})
    match suffix:
        case "jsonl":
            write_texts(path, text)
        case "json":
            path.write_text(json.dumps([{"text": text}], indent=1))
        case "csv":
            table.to_csv(path)
        case "parquet":
            table.to_parquet(path)
        case "txt":
            path.write_text(text)
    rows = packed(tokenizer, path=str(path), max_length=8)
    assert decoded(rows["input_ids"].ravel()) == text[: len(text) // 8 * 8]


def test_files_of_a_folder_are_read_in_sorted_order(tmp_path: Path) -> None:
    write_texts(tmp_path / "b" / "z.jsonl", "second")
    write_texts(tmp_path / "a.jsonl", "first")
    assert column(tmp_path) == ["first", "second"]


def test_hidden_files_are_ignored(tmp_path: Path) -> None:
    write_texts(tmp_path / "a.jsonl", "visible")
    (tmp_path / ".hidden.jsonl").write_text("malformed")
    assert column(tmp_path) == ["visible"]


def test_the_standard_library_is_readable(tokenizer: Any) -> None:
    rows = packed(tokenizer, source="python_stdlib", max_length=512)
    assert 1_000_000 < rows["input_ids"].size <= 8_100_000
    assert "\nimport os\n" in decoded(rows["input_ids"].ravel())


@pytest.mark.parametrize("folder", ["r[1]", "a*", "what?", "[!x]", "[", "a::b", "plain"])
def test_wildcards_in_a_path_are_literal(tmp_path: Path, folder: str) -> None:
    for sibling in ("r1", "ab", "whats", "y"):
        write_texts(tmp_path / sibling / "t.jsonl", "of a sibling")
    assert column(write_texts(tmp_path / folder / "t.jsonl", "the one")) == ["the one"]
    assert column(tmp_path / folder) == ["the one"]


def test_null_words_in_a_csv_are_text(tmp_path: Path) -> None:
    words = ["None", "NA", "null", "nan", "N/A", ""]
    path = tmp_path / "a.csv"
    path.write_text("prompt,completion\n" + "".join(f"q,{word}\n" for word in words))
    assert column(path, "completion") == words


@pytest.mark.parametrize("cells", [["4", "05"], ["1.50", "2"], ["true", "False"], ["2024-01-01", "x"]])
def test_csv_cells_are_unchanged_text(tmp_path: Path, cells: list[str]) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,text\n" + "".join(f"{number},{cell}\n" for number, cell in enumerate(cells)))
    assert column(path) == cells


@pytest.mark.parametrize("dates", [["2024-01-01", "2024-02-03"], ["2024-01-01T10:00:00Z"]])
@pytest.mark.parametrize("as_array", [False, True])
def test_dates_are_unchanged_text(tmp_path: Path, dates: list[str], as_array: bool) -> None:
    path = write_texts(tmp_path / "a.jsonl", *dates)
    if as_array:
        path.write_text(json.dumps([{"text": date} for date in dates]))
    assert column(path) == dates


@pytest.mark.parametrize(
    "cause",
    [OSError(number, os.strerror(number)) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)]
    + [MemoryError()],
)
def test_machine_errors_are_not_refused_as_bad_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cause: Exception
) -> None:
    def json_rows(*_: Any) -> None:
        raise ValueError("a wrapped error") from cause

    monkeypatch.setitem(reading.READ, "json", json_rows)
    with pytest.raises(type(cause)) as caught:
        column(write_texts(tmp_path / "a.jsonl", "x"))
    assert caught.value is cause
