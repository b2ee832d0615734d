"""A save writes the states as they were when it began, and all ranks learn whether it succeeded."""

import errno
import mmap
import os
import resource
import threading
from collections import OrderedDict
from collections.abc import Container
from pathlib import Path
from typing import Any

import pytest
import torch
import xxhash
from safetensors.torch import load_file, save_file

from zpipe.checkpoints.shares import (
    all_shares,
    close_shares,
    leave_failure,
    leave_share,
    open_shares,
    wait_until_named,
)
from zpipe.checkpoints.streamed_file import StreamedFile
from zpipe.train.host_buffers import HostBuffers
from zpipe.train.safetensors_file import can_write, write_safetensors
from zpipe.train.save import Save
from zpipe.train.snapshot import Snapshot


def pickled(state: Any, file: Any) -> None:
    torch.save(state, file)


def state() -> OrderedDict[str, Any]:
    whole = torch.arange(12.0).reshape(3, 4)
    parameter = torch.nn.Parameter(torch.ones(2, dtype=torch.bfloat16))
    nested = [{"step": 3, "moments": whole.t()[1:]}, parameter, torch.empty(0), "text"]
    return OrderedDict(whole=whole, nested=nested, again=whole)


def test_a_streamed_file_has_the_digest_of_its_content_on_the_disk(tmp_path: Path) -> None:
    content = os.urandom((1 << 24) + 1000)
    file = StreamedFile(tmp_path / "file")
    file.write(b"header")
    file.write(memoryview(content))
    assert file.finish() == (6 + len(content), xxhash.xxh3_128_hexdigest(b"header" + content))
    assert (tmp_path / "file").read_bytes() == b"header" + content


def test_a_disk_that_is_full_is_told_at_the_end_with_the_name_of_the_file(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    file = StreamedFile(tmp_path / "file")
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        assert file.write(b"x" * 2000) == 2000
        with pytest.raises(OSError, match="File too large") as caught:
            file.finish()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.filename == str(tmp_path / "file")


def test_a_snapshot_is_not_changed_by_the_training() -> None:
    original, buffers = state(), HostBuffers(ranks=1)
    snapshot = Snapshot(original)
    assert snapshot.state()["whole"] is original["whole"]
    snapshot.reserve(buffers)
    snapshot.copy()
    original["whole"].zero_()
    original["nested"][0]["step"] = 4
    copy, expected = snapshot.state(), state()
    assert type(copy) is OrderedDict
    assert torch.equal(copy["whole"], expected["whole"])
    assert torch.equal(copy["nested"][0]["moments"], expected["nested"][0]["moments"])
    assert copy["nested"][0]["step"] == 3
    assert isinstance(copy["nested"][1], torch.nn.Parameter)
    assert copy["again"] is copy["whole"]
    assert (
        copy["whole"].untyped_storage().data_ptr()
        == copy["nested"][0]["moments"].untyped_storage().data_ptr()
    )


def test_each_save_fills_the_same_memory() -> None:
    buffers = HostBuffers(ranks=1)
    places = []
    for value in (1.0, 2.0):
        buffers.begin()
        snapshot = Snapshot({"a": torch.full((8,), value), "b": torch.full((3,), value)})
        assert buffers.lacking(snapshot.storages()) is None
        snapshot.reserve(buffers)
        snapshot.copy()
        copy = snapshot.state()
        assert copy["a"].tolist() == [value] * 8
        places.append([copy["a"].data_ptr(), copy["b"].data_ptr()])
    assert places[0] == places[1]


def test_a_copy_that_host_memory_has_no_room_for_is_told_with_the_numbers() -> None:
    storage = torch.empty(0, dtype=torch.uint8).untyped_storage()
    storage.resize_(1 << 20)
    assert HostBuffers(ranks=1).lacking([storage]) is None
    lacking = HostBuffers(ranks=1 << 20).lacking([storage])
    assert lacking is not None
    needed, free = lacking
    assert needed == 1 << 40
    assert 0 < free < needed


def test_weights_are_the_same_bytes_as_those_of_the_library(tmp_path: Path) -> None:
    tensors = {f"layer.{n}.größe": torch.randn(n, 3).to(torch.bfloat16) for n in (2, 10, 1, 0)}
    save_file(tensors, tmp_path / "library", metadata={"format": "pt"})
    file = StreamedFile(tmp_path / "own")
    assert can_write(tensors)
    write_safetensors(tensors, {"format": "pt"}, file)
    file.finish()
    assert (tmp_path / "own").read_bytes() == (tmp_path / "library").read_bytes()


def test_weights_of_several_dtypes_are_read_by_the_library(tmp_path: Path) -> None:
    dtypes = (torch.bool, torch.int64, torch.float16, torch.float32, torch.uint8)
    tensors = {str(dtype): torch.ones(5, dtype=dtype) for dtype in dtypes}
    file = StreamedFile(tmp_path / "own")
    write_safetensors(tensors, {}, file)
    file.finish()
    loaded = load_file(tmp_path / "own")
    assert {name: (each.dtype, each.tolist()) for name, each in loaded.items()} == {
        name: (each.dtype, each.tolist()) for name, each in tensors.items()
    }


@pytest.mark.parametrize("in_background", [True, False])
def test_a_save_lists_what_it_wrote(tmp_path: Path, in_background: bool) -> None:
    open_shares(tmp_path)
    save, original = Save(tmp_path, 0, HostBuffers(1), HostBuffers(1), in_background=in_background), state()
    save.add(tmp_path / "states.pt", original, pickled)
    original["whole"].zero_()
    save.go_on(lambda _: None)
    save.wait()
    loaded = torch.load(tmp_path / "states.pt")
    assert torch.equal(loaded["whole"], state()["whole"])
    (entry,) = all_shares(tmp_path, [0])
    assert (entry.path, entry.bytes) == ("states.pt", (tmp_path / "states.pt").stat().st_size)


def test_the_optimizer_waits_until_its_states_are_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_copy, copy = threading.Event(), Snapshot.copy

    def late_copy(snapshot: Snapshot, only: Container[int] | None = None) -> None:
        assert only is not None or may_copy.wait(10)
        copy(snapshot, only)

    monkeypatch.setattr(Snapshot, "copy", late_copy)
    open_shares(tmp_path)
    weight, buffer = torch.ones(3), torch.ones(3)
    unsettled = {buffer.untyped_storage().data_ptr()}
    save = Save(tmp_path, 0, HostBuffers(1), HostBuffers(1), in_background=True, unsettled=unsettled)
    save.add(tmp_path / "states.pt", {"weight": weight, "buffer": buffer}, pickled)
    save.go_on(lambda _: None)
    buffer.zero_()  # as the forward pass may do
    threading.Timer(0.05, may_copy.set).start()
    save.wait_for_copies()
    assert may_copy.is_set()
    weight.zero_()
    save.wait()
    assert save.held_up()["snapshot"] > 0.04
    saved = torch.load(tmp_path / "states.pt")
    assert torch.equal(saved["weight"], torch.ones(3))
    assert torch.equal(saved["buffer"], torch.ones(3))


def test_large_tensors_are_copied_into_pages_of_their_own() -> None:
    buffers, original = HostBuffers(ranks=1), torch.arange(1 << 20)
    snapshot = Snapshot({"large": original})
    snapshot.reserve(buffers)
    snapshot.copy()
    copy = snapshot.state()["large"]
    assert torch.equal(copy, original)
    assert copy.data_ptr() % mmap.PAGESIZE == 0


def test_a_file_that_cannot_be_written_fails_the_save_on_every_rank(tmp_path: Path) -> None:
    open_shares(tmp_path)
    save = Save(tmp_path, 1, HostBuffers(2), HostBuffers(1), in_background=True)
    (tmp_path / "states.pt").symlink_to("/dev/full")
    save.add(tmp_path / "states.pt", state(), pickled)
    save.go_on(lambda _: None)
    with pytest.raises(OSError, match="File exists"):
        save.wait()
    for wait in (lambda: all_shares(tmp_path, [0, 1]), lambda: wait_until_named(tmp_path, 2)):
        with pytest.raises(OSError, match="rank 1") as caught:
            wait()
        assert caught.value.errno == errno.EEXIST


def test_rank_0_waits_for_the_files_of_all_ranks_and_the_others_for_the_name(tmp_path: Path) -> None:
    staging = tmp_path / ".saving-1-4"
    staging.mkdir()
    open_shares(staging)
    other = threading.Thread(target=wait_until_named, args=(staging, 2))
    other.start()
    leave_share(staging, 0, [])
    late = threading.Timer(0.05, leave_share, args=(staging, 1, []))
    late.start()
    assert all_shares(staging, [0, 1]) == []
    assert other.is_alive()
    staging.rename(tmp_path / "checkpoint-4")
    other.join(5)
    assert not other.is_alive()


def test_a_rank_may_look_for_failures_while_rank_0_removes_the_shares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zpipe.checkpoints.shares.marker_seconds", lambda *_: 0)
    staging, ended = tmp_path / ".saving-1-4", threading.Event()
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            while not ended.is_set():
                wait_until_named(staging, 2)
        except BaseException as error:
            errors.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    for number in range(300):
        staging.mkdir()
        open_shares(staging)
        leave_share(staging, 0, [])
        close_shares(staging)
        staging.rename(tmp_path / f"checkpoint-{number}")
    ended.set()
    waiting.join()
    assert errors == []


def test_an_error_without_a_number_reaches_the_other_ranks(tmp_path: Path) -> None:
    open_shares(tmp_path)
    leave_failure(tmp_path, 1, RuntimeError("no such state"))
    with pytest.raises(OSError, match="rank 1: no such state"):
        all_shares(tmp_path, [0, 1])
