"""A run on one machine listens on loopback alone, and files beside the data do not replace packages."""

import time
from pathlib import Path

import psutil
import pytest

from tests.support.process import SMALL, Run, finish, start

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory, text_file: Path) -> tuple[Run, set[str]]:
    """A finished run of two ranks, and every address on which one of its processes listened."""
    cwd = tmp_path_factory.mktemp("isolated")
    (cwd / "datasets.py").write_text("raise RuntimeError('the file in the working folder was imported')\n")
    folder = cwd / "run"
    overrides = ["launcher.nproc_per_node=2", f"data.path={text_file}", f"hydra.run.dir={folder}"]
    process = start(cwd, *SMALL, *overrides, "tracking=none")
    addresses: set[str] = set()
    while process.poll() is None:
        addresses |= listening(process.pid)
        time.sleep(0.2)
    return finish(process, folder), addresses


def listening(pid: int) -> set[str]:
    """Addresses of the listening sockets of a process and its descendants."""
    found: set[str] = set()
    try:
        root = psutil.Process(pid)
        for each in (root, *root.children(recursive=True)):
            sockets = each.net_connections(kind="inet")
            found |= {socket.laddr.ip for socket in sockets if socket.status == psutil.CONN_LISTEN}
    except psutil.Error:
        pass
    return found


def test_all_sockets_are_on_loopback(observed: tuple[Run, set[str]]) -> None:
    assert observed[1], "the ranks did not connect"
    assert observed[1] <= {"127.0.0.1", "::1"}


def test_a_file_in_the_working_folder_does_not_shadow_a_package(observed: tuple[Run, set[str]]) -> None:
    run, _ = observed
    assert run.exit_code == 0, run.explain()


def test_files_of_the_launch_are_removed(observed: tuple[Run, set[str]]) -> None:
    names = {path.name for path in observed[0].folder.iterdir()}
    assert not {name for name in names if name.startswith((".rendezvous", ".process-group", ".data-"))}
