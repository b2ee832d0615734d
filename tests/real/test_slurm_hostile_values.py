"""Values that a shell would read as more than text, through the script of a job in a real Slurm cluster."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hostile import folder_name, place_in, printed_command
from tests.support.slurm import can_run_slurm, cluster, slurm
from zpipe.compose.compose import compose_once
from zpipe.compose.overrides import rewrite

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not can_run_slurm(), reason="a cluster needs root, Debian's slurm-wlm and munge"),
]

COMBINED = (
    "it's $(touch ran) `touch ran`; touch ran %j",
    '-rf "two" words & touch ran | touch ran > ran é',
    "* {a,b} ~ $HOME # a\ttouch ran\ntouch ran \\",
)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with cluster(tmp_path_factory.mktemp("slurm") / "cluster") as found:
        yield found


@pytest.mark.parametrize("value", COMBINED)
def test_a_job_gives_the_zpipe_of_each_node_every_value_as_it_is(
    value: str,
    environment: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = place_in(tmp_path, monkeypatch)
    command = printed_command("slurm", value, place, capsys, "launcher.nodes=2")
    folder = folder_name("slurm", value)
    wait_for_end(environment, place.run(command, environment).strip())
    for node in ("0", "1"):
        noted = place.noted("python", node)
        with monkeypatch.context() as of_node:
            for name in ("SLURM_NODEID", "ZPIPE_MASTER_ADDR", "ZPIPE_MASTER_PORT"):
                of_node.setenv(name, noted.environment[name])
            composed = compose_once(rewrite(noted.arguments[2:]))
        launcher = composed.experiment.launcher
        assert composed.run_dir == place.work / folder
        assert launcher.env == {"TRITON_NOTE": value}
        assert composed.experiment.tracking.run_name == value
        assert (launcher.node_rank, launcher.master_addr) == (int(node), "127.0.0.1")
    assert place.is_untouched(folder)
    assert len([*(place.work / folder).glob("slurm-*.out")]) == 1


def wait_for_end(environment: dict[str, str], job: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        shown = slurm(environment, "scontrol", "show", "job", "--oneliner", job)
        if "JobState=COMPLETED" in shown:
            return
        time.sleep(0.5)
    raise AssertionError(shown)
