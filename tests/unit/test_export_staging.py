"""An exported folder is complete or absent."""

import errno
from pathlib import Path

import pytest

from zpipe.problems import Refusal
from zpipe.train.export.staging import complete_or_absent, require_room


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_folder_has_its_name_only_when_it_is_complete(tmp_path: Path) -> None:
    with complete_or_absent(tmp_path / "out") as staging:
        (staging / "config.json").write_text("{}")
        assert not (tmp_path / "out").exists()
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["config.json"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, Refusal([])])
def test_nothing_is_left_of_an_export_that_was_broken_off(
    error: BaseException | type[BaseException], tmp_path: Path
) -> None:
    with pytest.raises(BaseException), complete_or_absent(tmp_path / "out") as staging:  # noqa: B017
        (staging / "model.safetensors").write_bytes(b"half")
        raise error
    assert names(tmp_path) == []


def test_folder_that_came_into_being_meanwhile_is_kept(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="made meanwhile"), complete_or_absent(tmp_path / "out"):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "mine").write_text("mine")
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["mine"]


def test_disk_without_room_is_found_before_anything_is_written(tmp_path: Path) -> None:
    require_room(tmp_path / "out", 1)
    with pytest.raises(OSError, match="the export needs") as error:
        require_room(tmp_path / "out", 1 << 60)
    assert error.value.errno == errno.ENOSPC
    assert names(tmp_path) == []
