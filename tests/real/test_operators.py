"""A build lock that a killed build left behind is cleared, and the run goes on."""

import os
import time
from pathlib import Path

import pytest

from tests.support.process import SMALL, zpipe

pytestmark = pytest.mark.real


def operator_folder(name: str) -> Path:
    from zpipe.train.operators import build_folder

    return build_folder(name)


def test_a_stale_build_lock_is_cleared_and_said(text_file: Path, tmp_path: Path) -> None:
    lock = operator_folder("cpu_adam") / "lock"
    lock.touch()
    long_ago = time.time() - 3600
    os.utime(lock, (long_ago, long_ago))
    run = zpipe(tmp_path, *SMALL, "offload=cpu_optimizer", f"data.path={text_file}", "tracking=none")
    assert run.exit_code == 0, run.explain()
    assert not lock.exists()
    assert "stale_lock_cleared" in [event.get("state") for event in run.events]


def test_without_libaio_nvme_is_refused_as_a_lack_of_this_machine(text_file: Path, tmp_path: Path) -> None:
    run = zpipe(
        tmp_path, *SMALL, "stage=3", "offload=nvme", f"data.path={text_file}", LDFLAGS="-no-such-flag"
    )
    assert run.exit_code == 3, run.explain()
    assert "apt-get install libaio-dev" in run.stderr
    assert "Traceback" not in run.stderr
