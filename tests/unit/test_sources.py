"""Reading data files: the very file that was named, its texts as written, and whose fault an error is."""

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
import transformers

from zpipe.problems import Refusal
from zpipe.schema.data import Data
from zpipe.train.data import fingerprint
from zpipe.train.sources import local_source, read
from zpipe.train.tokens import Encoder, folder_or_id


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    cache = tmp_path / "cache"
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
    yield cache


def write(path: Path, *texts: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def column(path: Path, name: str = "text") -> list[Any]:
    data = Data(path=str(path))
    source = local_source(data)
    assert source is not None
    return list(read(source, data)[name])


@pytest.mark.parametrize("folder", ["r[1]", "a*", "what?", "[!x]", "[", "plain"])
def test_the_file_that_was_named_is_read_and_no_other(tmp_path: Path, folder: str) -> None:
    for sibling in ("r1", "ab", "whats", "y"):
        write(tmp_path / sibling / "t.jsonl", "of a sibling")
    assert column(write(tmp_path / folder / "t.jsonl", "the one")) == ["the one"]
    assert column(tmp_path / folder) == ["the one"]


def test_a_path_that_cannot_be_read_for_its_colons_is_refused_by_them(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="::"):
        column(write(tmp_path / "a::b" / "t.jsonl", "x"))


def test_words_that_often_mean_nothing_stay_texts_in_a_csv(tmp_path: Path) -> None:
    words = ["None", "NA", "null", "nan", "N/A", ""]
    path = tmp_path / "a.csv"
    path.write_text("prompt,completion\n" + "".join(f"q,{word}\n" for word in words))
    assert column(path, "completion") == words


@pytest.mark.parametrize("cells", [["4", "05"], ["1.50", "2"], ["true", "False"], ["2024-01-01", "x"]])
def test_cells_of_a_csv_are_texts_as_they_were_written(tmp_path: Path, cells: list[str]) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,text\n" + "".join(f"{number},{cell}\n" for number, cell in enumerate(cells)))
    assert column(path) == cells


@pytest.mark.parametrize("dates", [["2024-01-01", "2024-02-03"], ["2024-01-01T10:00:00Z"]])
@pytest.mark.parametrize("as_array", [False, True])
def test_dates_are_texts_as_they_were_written(tmp_path: Path, dates: list[str], as_array: bool) -> None:
    path = write(tmp_path / "a.jsonl", *dates)
    if as_array:
        path.write_text(json.dumps([{"text": date} for date in dates]))
    assert column(path) == dates


def test_files_of_one_name_size_and_time_in_two_folders_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = Encoder.of(transformers.ByT5Tokenizer(extra_ids=0))
    names = []
    for folder, text in (("one", "aaa"), ("two", "bbb")):
        path = write(tmp_path / folder / "train.jsonl", text)
        os.utime(path, (1e9, 1e9))
        monkeypatch.chdir(path.parent)
        data = Data(path="train.jsonl")
        source = local_source(data)
        assert source is not None
        names.append(fingerprint(data, encoder, source.stamp()))
    assert names[0] != names[1]


@pytest.mark.parametrize(
    "trouble",
    [OSError(number, os.strerror(number)) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)]
    + [MemoryError()],
)
def test_what_the_machine_lacks_is_not_refused_as_bad_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    def load_dataset(*_: Any, **__: Any) -> None:
        raise ValueError("An error occurred while generating the dataset") from trouble

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(type(trouble)) as caught:
        column(write(tmp_path / "a.jsonl", "x"))
    assert caught.value is trouble


def test_the_home_folder_is_found_by_its_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert folder_or_id("~/model") == "/home/somebody/model"
    assert folder_or_id("org/name") == "org/name"
