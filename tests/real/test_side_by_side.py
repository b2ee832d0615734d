"""Runs at the same time on one machine do not disturb each other."""

from pathlib import Path

import pytest

from tests.support.process import SMALL, finish, start
from tests.support.store import Store, put_store

pytestmark = pytest.mark.real


def test_two_runs_side_by_side_do_not_meet(
    libaio: None, text_file: Path, tmp_path: Path, empty_store: Path
) -> None:
    """One machine, one swap path, one store."""
    put_store(empty_store, tmp_path)
    common = (
        *SMALL,
        "stage=3",
        "offload=nvme",
        f"offload.nvme_path={tmp_path / 'nvme'}",
        f"data.path={text_file}",
    )
    folders = [tmp_path / "one", tmp_path / "two"]
    running = [start(tmp_path, *common, f"hydra.run.dir={folder}") for folder in folders]
    one, two = (finish(process, folder) for process, folder in zip(running, folders, strict=True))
    assert one.exit_code == two.exit_code == 0, one.explain() + two.explain()
    assert one.series("loss") == two.series("loss")
    assert [run.info.status for run in Store(tmp_path).runs()] == ["FINISHED"] * 2
