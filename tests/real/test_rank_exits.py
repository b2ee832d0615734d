"""The failures that a real torchrun agent reports, with small scripts as workers."""

import os
import subprocess
from pathlib import Path

import pytest

from zpipe.launchers.base import Job
from zpipe.launchers.rank_exits import read_rank_exits
from zpipe.launchers.torchrun import Torchrun
from zpipe.runfolder.folder import RunFolder
from zpipe.schema.launcher import Launcher

pytestmark = pytest.mark.real

WORKER = """\
import os, sys, time
if os.environ["RANK"] == "1":
    {failure}
time.sleep(60)
"""


@pytest.mark.parametrize(
    ("failure", "code"),
    [("os.kill(os.getpid(), 9)", -9), ("sys.exit(3)", 3), ("raise ValueError", 1)],
    ids=["signal", "exit code", "exception"],
)
def test_the_failed_rank_comes_before_the_ranks_that_torchrun_ended(
    tmp_path: Path, failure: str, code: int
) -> None:
    script = tmp_path / "worker.py"
    script.write_text(WORKER.format(failure=failure))
    attempt = RunFolder(tmp_path).begin(1)
    attempt.logs.mkdir()
    agent = Torchrun().render(Job(RunFolder(tmp_path), attempt, Launcher(), "cpu", 2)).argv
    command = [*agent[: agent.index("-m", 2)], str(script)]  # everything but `-m zpipe.train RUN_DIR`
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with attempt.launcher_log.open("wb") as log:
        done = subprocess.run(command, env=environment, stdout=log, stderr=log, timeout=60, check=False)
    assert done.returncode == 1
    exits = read_rank_exits(attempt)
    assert [(each.rank, each.exit_code) for each in exits] == [(1, code), (0, -15)]
    assert not list(tmp_path.rglob("error.json")), "torchrun's error files do not cover these failures"
