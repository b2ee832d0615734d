"""Whatever happens to the tracking server or to zpipe, MLflow ends up with every event that was written."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import preloaded
from tests.support.plans import make_plan
from tests.support.process import REPOSITORY, SMALL, Run, finish, kill_tree, processes_mentioning, start
from tests.support.series import recorded, run_id_of, written
from tests.support.server import Server
from tests.support.store import Store, put_store
from zpipe.runfolder.folder import RunFolder

pytestmark = pytest.mark.real

STEPS = 60
OF_THE_TRAINING = ("loss", "grad_norm", "learning_rate", "epoch")
"""Series that the seed decides; the others are measurements of this machine."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    server.start()
    yield server
    server.kill()


def trained(cwd: Path, text_file: Path, uri: str, *more: str, folder: str = "run") -> Run:
    return preloaded.zpipe(
        cwd,
        *SMALL,
        f"train.max_steps={STEPS}",
        "data.eval_fraction=0.05",
        f"data.path={text_file}",
        f"tracking.uri={uri}",
        *more,
        folder=folder,
    )


def record(folder: Path) -> Run:
    return preloaded.verb(folder.parent, "record", str(folder), folder=folder)


@pytest.fixture(scope="module")
def twin(server: Server, text_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that was recorded undisturbed."""
    run = trained(tmp_path_factory.mktemp("twin"), text_file, server.uri)
    assert run.exit_code == 0, run.explain()
    return run


def assert_equals_twin(run: Run, twin: Run, server: Server) -> None:
    """MLflow has of both runs all that they wrote, and both wrote the same training."""
    client = server.client()
    ours, theirs = (recorded(client, run_id_of(each.folder)) for each in (run, twin))
    assert ours == written(run.folder)
    assert theirs == written(twin.folder)
    assert {name: [step for step, _ in points] for name, points in ours.items()} == {
        name: [step for step, _ in points] for name, points in theirs.items()
    }
    for name in OF_THE_TRAINING:
        assert ours[name] == theirs[name], name
        assert len(ours[name]) >= STEPS
    assert ours["eval_loss"] == theirs["eval_loss"]
    assert client.get_run(run_id_of(run.folder)).info.status == "FINISHED"


def test_a_server_that_is_down_for_the_whole_run(
    server: Server, twin: Run, text_file: Path, tmp_path: Path
) -> None:
    server.kill()
    run = trained(tmp_path, text_file, server.uri)
    assert run.exit_code == 6, run.explain()
    assert "zpipe record" in run.stdout
    assert record(run.folder).exit_code == 6
    server.start()
    done = record(run.folder)
    assert done.exit_code == 0, done.explain()
    assert_equals_twin(run, twin, server)


def test_a_server_that_is_killed_in_the_middle_and_comes_back(
    server: Server, text_file: Path, tmp_path: Path
) -> None:
    """Long enough for the server to return within the run, whose recorder then catches up by itself."""
    folder = tmp_path / "run"
    process = preloaded.start(
        tmp_path,
        *SMALL,
        preloaded.INPROCESS,
        "train.max_steps=100000",
        f"data.path={text_file}",
        f"tracking.uri={server.uri}",
        f"hydra.run.dir={folder}",
    )
    wait_until_recorded(folder)
    server.kill()
    time.sleep(3)
    server.start()
    offset = json.loads((folder / "record.json").read_text())["offset"]
    wait_until_recorded(folder, offset)
    process.send_signal(signal.SIGTERM)
    run = finish(process, folder)
    assert run.exit_code == 143, run.explain()
    assert recorded(server.client(), run_id_of(folder)) == written(folder)
    assert server.client().get_run(run_id_of(folder)).info.status == "KILLED"


def wait_until_recorded(folder: Path, offset: int = 0, seconds: float = 120) -> None:
    """Until MLflow has more than the first so many bytes of the events."""
    deadline = time.monotonic() + seconds
    state = folder / "record.json"
    while not state.exists() or json.loads(state.read_text())["offset"] <= offset:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def kill_all(process: subprocess.Popen[str]) -> None:
    """SIGKILL to the process and all its descendants."""
    kill_tree(process.pid)
    process.communicate()


def assert_all_is_recorded(folder: Path, cwd: Path) -> None:
    """Every whole line that was written before the kill is in MLflow, and the run is closed, once."""
    done = record(folder)
    assert done.exit_code == 0, done.explain()
    runs = [run for run in Store(cwd).runs() if run.data.tags["zpipe.run_dir"] == str(folder)]
    assert len(runs) == 1
    is_done = '"name": "done"' in RunFolder(folder).attempt.events.read_text()
    assert runs[0].info.status == ("FINISHED" if is_done else "KILLED")
    assert recorded(Store(cwd).client, runs[0].info.run_id) == written(folder)


@pytest.fixture(scope="module")
def moments() -> random.Random:
    return random.Random(20261124)


@pytest.mark.parametrize("number", range(2))
def test_a_run_that_is_killed_whole_at_a_random_moment(
    number: int, moments: random.Random, text_file: Path, tmp_path: Path, empty_store: Path
) -> None:
    put_store(empty_store, tmp_path)
    folder = tmp_path / "run"
    overrides = (*SMALL, "train.max_steps=100000", f"data.path={text_file}", f"hydra.run.dir={folder}")
    process = start(tmp_path, *overrides, "launcher.nproc_per_node=2")
    # The first is killed while it starts, the others while they train.
    wait_for(folder, '"phase"' if number == 0 else '"metrics"')
    time.sleep(moments.uniform(0, 3))
    kill_all(process)
    assert processes_mentioning(str(folder)) == []
    assert_all_is_recorded(folder, tmp_path)
    if number > 0:
        assert written(folder)["loss"]


def wait_for(folder: Path, words: str, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    events = RunFolder(folder).attempt.events
    while not events.exists() or words not in events.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("number", range(2))
def test_a_recorder_and_a_writer_that_are_killed_at_a_random_moment(
    number: int, moments: random.Random, twin: Run, tmp_path: Path, empty_store: Path
) -> None:
    put_store(empty_store, tmp_path)
    folder = Path(make_plan(tmp_path / "run").run_dir)
    argv = [sys.executable, "-m", "tests.support.replay", str(folder), str(twin.attempt.events), "4"]
    process = subprocess.Popen(
        argv, cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, text=True
    )
    wait_for(folder, '"metrics"')
    time.sleep(moments.uniform(0, 5))
    kill_all(process)
    assert_all_is_recorded(folder, tmp_path)
