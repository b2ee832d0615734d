"""The manifest of a checkpoint, as zpipe writes it and as somebody else may."""

import os
from pathlib import Path

import pytest

from tests.support.checkpoints import FILES, edit_manifest, make_checkpoint, manifest_of
from zpipe.checkpoints.manifest import MANIFEST_NAME, entries_of, read_manifest, write_manifest
from zpipe.problems import Refusal


def test_manifest_survives_writing_and_reading(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, 40)
    manifest = manifest_of(folder, 80)
    assert write_manifest(folder, manifest) == folder / MANIFEST_NAME
    assert read_manifest(folder) == manifest


def test_manifest_and_its_folder_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_checkpoint(tmp_path, 40)
    synced: list[Path] = []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(Path(f"/proc/self/fd/{number}").readlink()))
    write_manifest(folder, manifest_of(folder, 40))
    assert [path.name.startswith(f".{MANIFEST_NAME}") for path in synced] == [True, False]
    assert synced[-1] == folder


def test_manifest_lists_every_file_but_itself(tmp_path: Path) -> None:
    entries = read_manifest(make_checkpoint(tmp_path, 40)).files
    assert {entry.path: entry.bytes for entry in entries} == {name: len(FILES[name]) for name in FILES}


@pytest.mark.parametrize("target", ["file", "folder"])
def test_link_cannot_be_listed(target: str, tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, 40)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (folder / "link").symlink_to(tmp_path / target)
    with pytest.raises(OSError, match="link"):
        entries_of(folder)


@pytest.mark.parametrize(
    "path",
    ["../x", "a/../../x", "/etc/passwd", "C:/x", "C:x", "a\\..\\..\\x", "\\x", "", ".", "./a", "a//b", "a\0"],
)
def test_path_that_could_leave_the_checkpoint_is_refused(path: str, tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, 40)
    edit_manifest(folder, entry={"path": path})
    with pytest.raises(Refusal, match="stays inside the checkpoint"):
        read_manifest(folder)


@pytest.mark.parametrize("path", ["a", "a/b.pt", "..a/b..", "a b/ü.bin"])
def test_path_inside_the_checkpoint_is_accepted(path: str, tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, 40)
    edit_manifest(folder, entry={"path": path})
    assert read_manifest(folder).files[0].path == path


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"step": -1},
        {"step": "forty"},
        {"world_size": 0},
        {"files": []},
        {"unknown": 1},
        {"entry": {"bytes": -1}},
        {"entry": {"digest": "ABC"}},
        {"entry": {"path": "model.safetensors"}},
    ],
    ids=str,
)
def test_manifest_of_another_shape_is_refused(change: dict[str, object], tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, 40)
    edit_manifest(folder, **change)
    with pytest.raises(Refusal, match="not a manifest of this version of zpipe"):
        read_manifest(folder)


def test_missing_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="No such file"):
        read_manifest(tmp_path)


def test_link_in_place_of_the_manifest_is_not_followed(tmp_path: Path) -> None:
    manifest = make_checkpoint(tmp_path, 40) / MANIFEST_NAME
    manifest.rename(tmp_path / "elsewhere.json")
    manifest.symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(Refusal, match="cannot be read"):
        read_manifest(manifest.parent)
