"""A process is identified by its pid and the ticks since boot at its start."""

import os
import signal
import subprocess
import sys

import pytest

from zpipe.machine.process_identity import identity_of, is_alive, own_identity, place


def test_this_process_is_alive() -> None:
    assert is_alive(own_identity())


def test_a_reused_pid_is_another_process() -> None:
    pid, _, started = own_identity().partition(":")
    assert not is_alive(f"{pid}:{int(started) - 1}")


def test_a_process_that_ended_is_not_alive_even_as_a_zombie() -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as child:
        identity = identity_of(child.pid)
        assert is_alive(identity)
        os.kill(child.pid, signal.SIGKILL)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert not is_alive(identity), "a zombie"
        child.wait()
        assert not is_alive(identity)
        with pytest.raises(ProcessLookupError):
            identity_of(child.pid)


def test_setting_the_clock_changes_no_identity() -> None:
    """The wall-clock start time of psutil is derived from the boot time, which follows the clock."""
    started = int(own_identity().partition(":")[2])
    ticks = os.sysconf("SC_CLK_TCK")
    with open("/proc/uptime") as file:  # noqa: PTH123 - a single line of a kernel file
        uptime = float(file.read().split()[0])
    assert 0 < started / ticks <= uptime


GONE = "999999999:1"


@pytest.mark.parametrize(("where", "ends"), [("here", True), ("another node", False)])
def test_a_worker_watches_a_parent_on_its_own_machine_only(where: str, ends: bool) -> None:
    """A pid means nothing on another node, where every worker would end itself."""
    code = (
        "from zpipe.train.parent_watch import exit_with_parent as watch; watch(); import time; time.sleep(2)"
    )
    variables = {"ZPIPE_PARENT": GONE, "ZPIPE_PARENT_PLACE": place() if where == "here" else where}
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **variables}, check=False)
    assert done.returncode == (-signal.SIGKILL if ends else 0)
