"""Digests of checkpoint files."""

import os
from pathlib import Path

import pytest

from zpipe.checkpoints import digests
from zpipe.checkpoints.digests import digest_of, digests_of, sync_tree
from zpipe.checkpoints.folders import files_below


def file_of(folder: Path, name: str, content: bytes) -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def test_digests_are_the_published_ones(tmp_path: Path) -> None:
    """Test vectors of XXH3-128; a change would make every existing checkpoint look damaged."""
    assert digest_of(file_of(tmp_path, "empty", b"")) == "99aa06d3014798d86001c324468d497f"
    assert digest_of(file_of(tmp_path, "abc", b"abc")) == "06b05ab6733a618578af5f94892f3950"


def test_digest_does_not_depend_on_the_size_of_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = file_of(tmp_path, "file", os.urandom(5000))
    whole = digest_of(file)
    monkeypatch.setattr(digests, "_BLOCK_BYTES", 7)
    assert digest_of(file) == whole


def test_every_byte_is_reported_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "_BLOCK_BYTES", 64)
    files = [file_of(tmp_path, str(size), bytes(size)) for size in (0, 1, 64, 1000)]
    counts: list[int] = []
    digests_of(files, counts.append)
    assert sum(counts) == 1065


def test_digests_of_many_files_are_those_of_each(tmp_path: Path) -> None:
    files = [file_of(tmp_path, str(number), b"x" * number) for number in range(20)]
    assert digests_of(files) == {file: digest_of(file) for file in files}


@pytest.mark.parametrize("kind", ["link", "fifo", "folder", "missing"])
def test_only_regular_files_have_a_digest(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    if kind == "link":
        path.symlink_to(file_of(tmp_path, "target", b""))
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    with pytest.raises(OSError, match=r"x\.bin"):
        digests_of([path])


def test_files_below_names_links_and_does_not_follow_them(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    file_of(tmp_path / "outside", "secret", b"")
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    file_of(folder / "inner", "file", b"")
    (folder / "link").symlink_to(tmp_path / "outside")
    found = {file.relative_to(folder).as_posix() for file in files_below(folder)}
    assert found == {"inner/file", "link"}


def test_sync_reaches_files_before_their_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "inner").mkdir()
    file_of(tmp_path / "inner", "file", b"")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("/dev/zero")
    synced: list[Path] = []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(Path(f"/proc/self/fd/{number}").readlink()))
    sync_tree(tmp_path)
    assert synced == [tmp_path / "inner" / "file", tmp_path / "inner", tmp_path]
