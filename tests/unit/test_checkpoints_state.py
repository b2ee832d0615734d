"""Every kind of damage to a checkpoint is noticed and named."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.checkpoints import FILES, SHARD, edit_manifest, flip_bit, make_checkpoint, truncate
from zpipe.checkpoints import state
from zpipe.checkpoints.manifest import MANIFEST_NAME
from zpipe.checkpoints.state import NO_STEP, inspect

RANK_1 = "global_step40/zero_pp_rank_1_mp_rank_00_optim_states.pt"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path, 40)


def damage_of(folder: Path) -> tuple[str, ...]:
    found = inspect(folder, "this-run")
    assert found.state == "damaged"
    return found.damage


def test_untouched_checkpoint_is_good(folder: Path) -> None:
    found = inspect(folder, "this-run")
    assert (found.state, found.step, found.path, found.damage) == ("good", 40, folder, ())
    assert found.manifest is not None
    assert found.manifest.run_id == "this-run"


def test_copy_of_a_checkpoint_is_good(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copies" / folder.name)
    assert inspect(copy, "this-run").state == "good"


def test_inspection_reports_every_byte(folder: Path) -> None:
    counts: list[int] = []
    inspect(folder, "this-run", counts.append)
    assert sum(counts) == sum(map(len, FILES.values()))


def swap(folder: Path) -> None:
    (folder / SHARD).rename(folder / "third")
    (folder / RANK_1).rename(folder / SHARD)
    (folder / "third").rename(folder / RANK_1)


def link_to_itself(folder: Path) -> None:
    """The same bytes behind a link."""
    (folder / SHARD).rename(folder.parent / "outside")
    (folder / SHARD).symlink_to(folder.parent / "outside")


def link_of_the_folder(folder: Path) -> None:
    (folder / "global_step40").rename(folder.parent / "outside")
    (folder / "global_step40").symlink_to(folder.parent / "outside")


def fifo(folder: Path) -> None:
    (folder / "latest").unlink()
    os.mkfifo(folder / "latest")


def file_for_folder(folder: Path) -> None:
    shutil.rmtree(folder / "global_step40")
    (folder / "global_step40").touch()


DAMAGE: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "missing file": (lambda folder: (folder / RANK_1).unlink(), (f"missing: {RANK_1}",)),
    "truncated": (
        lambda folder: truncate(folder / "model.safetensors"),
        ("model.safetensors: 12 bytes instead of 256",),
    ),
    "emptied": (
        lambda folder: (folder / "latest").write_bytes(b""),
        ("latest: 0 bytes instead of 13",),
    ),
    "grown": (
        lambda folder: (folder / "latest").write_bytes(b"x" * 2000),
        ("latest: 2,000 bytes instead of 13",),
    ),
    "flipped bit": (lambda folder: flip_bit(folder / SHARD, 0), (f"changed: {SHARD}",)),
    "swapped": (swap, (f"changed: {SHARD}", f"changed: {RANK_1}")),
    "link to a file": (link_to_itself, (f"behind a link: {SHARD}",)),
    "link to a folder": (link_of_the_folder, (f"behind a link: {SHARD}", f"behind a link: {RANK_1}")),
    "fifo": (fifo, ("no regular file: latest",)),
    "file for a folder": (file_for_folder, (f"missing: {SHARD}", f"missing: {RANK_1}")),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named(kind: str, folder: Path) -> None:
    do, sentences = DAMAGE[kind]
    do(folder)
    assert damage_of(folder) == sentences


@pytest.mark.parametrize("name", FILES)
def test_flipped_bit_anywhere_is_noticed(name: str, folder: Path) -> None:
    last = len(FILES[name]) - 1
    for offset in sorted({round(last * part / 12) for part in range(13)}):
        flip_bit(folder / name, offset)
        assert damage_of(folder) == (f"changed: {name}",), offset
        flip_bit(folder / name, offset)
    assert inspect(folder, "this-run").state == "good"


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".pkl", ".PT"])
def test_unlisted_pickle_is_damage(suffix: str, folder: Path) -> None:
    (folder / "global_step40" / f"extra{suffix}").touch()
    assert damage_of(folder) == (f"unexpected pickle file: global_step40/extra{suffix}",)


def test_unlisted_link_named_as_a_pickle_is_damage(folder: Path) -> None:
    (folder / "training_args.bin").symlink_to("/nowhere")
    assert damage_of(folder) == ("unexpected pickle file: training_args.bin",)


def test_unlisted_note_is_no_damage(folder: Path) -> None:
    (folder / "notes.txt").write_text("the best one so far")
    assert inspect(folder, "this-run").state == "good"


def test_folder_of_another_step_is_damage(folder: Path) -> None:
    renamed = folder.rename(folder.with_name("checkpoint-80"))
    assert damage_of(renamed) == ("the folder is named checkpoint-80, but its manifest is of step 40",)


@pytest.mark.parametrize("name", ["best", "checkpoint-", "checkpoint-040", "checkpoint-٤٠", "xcheckpoint-40"])
def test_folder_of_another_name_is_damage(name: str, folder: Path) -> None:
    found = inspect(folder.rename(folder.with_name(name)), None)
    assert (found.state, found.step) == ("damaged", NO_STEP)


@pytest.mark.parametrize("content", [b"", b"{", b"null", b"[]", b"\x80\x05", b"[" * 100_000])
def test_manifest_that_is_none_is_damage(content: bytes, folder: Path) -> None:
    (folder / MANIFEST_NAME).write_bytes(content)
    (finding,) = damage_of(folder)
    assert finding.startswith(f"{MANIFEST_NAME}: ")


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd"])
def test_manifest_that_leads_out_is_damage_and_not_followed(
    path: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit_manifest(folder, entry={"path": path})
    monkeypatch.setattr(state, "digests_of", pytest.fail)
    (finding,) = damage_of(folder)
    assert "stays inside the checkpoint" in finding


def test_link_in_place_of_the_manifest_is_damage(folder: Path) -> None:
    (folder / MANIFEST_NAME).rename(folder.parent / "elsewhere")
    (folder / MANIFEST_NAME).symlink_to(folder.parent / "elsewhere")
    assert damage_of(folder)[0].startswith(f"{MANIFEST_NAME}: cannot be read")


@pytest.mark.parametrize("emptied", [True, False], ids=["empty folder", "no manifest"])
def test_checkpoint_without_manifest_is_incomplete(emptied: bool, folder: Path) -> None:
    (folder / MANIFEST_NAME).unlink()
    if emptied:
        shutil.rmtree(folder)
        folder.mkdir()
    found = inspect(folder, "this-run")
    assert (found.state, found.step, found.manifest) == ("incomplete", 40, None)
    assert found.damage == (f"missing: {MANIFEST_NAME}",)


def test_checkpoint_of_another_run_is_told_apart_and_both_are_named(folder: Path) -> None:
    found = inspect(folder, "that-run")
    assert (found.state, found.damage) == ("other run", ("written by the run this-run, not by that-run",))


def test_without_a_run_any_run_may_have_written_it(folder: Path) -> None:
    assert inspect(folder, None).state == "good"


def test_nothing_is_read_before_all_sizes_are_right(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "digests_of", pytest.fail)
    flip_bit(folder / "model.safetensors", 3)
    truncate(folder / "latest")
    truncate(folder / SHARD)
    assert damage_of(folder) == (
        f"{SHARD}: 12 bytes instead of 300",
        "latest: 12 bytes instead of 13",
    )


def test_file_that_the_disk_cannot_read_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken_read(descriptor: int, buffers: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "readv", broken_read)
    (finding,) = damage_of(folder)
    assert finding.startswith(f"cannot be read: {folder}/")
    assert finding.endswith("Input/output error")


def test_path_too_long_for_the_file_system_is_damage(folder: Path) -> None:
    edit_manifest(folder, entry={"path": "x" * 300})
    assert damage_of(folder)[0].endswith("File name too long")
