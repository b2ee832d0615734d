"""The hostfile: what is read from it, what is refused, and what DeepSpeed's runner is given."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.planning import CPU, H200, gpus, plan_of, problems_of
from zpipe.compose.points import plan_sweep
from zpipe.compose.recipe_rules import recipe_problems
from zpipe.diagnose.classify import classify
from zpipe.diagnose.evidence import Evidence
from zpipe.facts.hostfile import read_hosts
from zpipe.launchers.exports import exported, without_exports
from zpipe.launchers.rank_exits import RankExit, read_rank_exits
from zpipe.machine.handover import Handover, received, served
from zpipe.machine.ssh import ssh_command
from zpipe.problems import Problem
from zpipe.runfolder.folder import RunFolder
from zpipe.schema.launcher import Launcher
from zpipe.supervise.host_link import HostLink
from zpipe.supervise.host_messages import Hello, Order, Report, line_of, message_in
from zpipe.supervise.hosts import AGENT, inherited
from zpipe.train.on_host import merged

THREE = "# a cluster\nhost-a slots=4\n\nhost-b slots=4  # new\n  host-c slots=4\n"


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("hosts").write_text(THREE)


def chosen(include: str | None = None, exclude: str | None = None) -> dict[str, list[int]]:
    read = read_hosts(Launcher(hostfile="hosts", include=include, exclude=exclude))
    assert read.problems == ()
    return {host.name: host.slots for host in read.hosts}


def refused(text: str = THREE, include: str | None = None, exclude: str | None = None) -> list[str]:
    Path("hosts").write_text(text)
    read = read_hosts(Launcher(hostfile="hosts", include=include, exclude=exclude))
    assert read.hosts == ()
    return [f"{problem.key}: {problem.reason}" for problem in read.problems]


def test_all_hosts_take_part_with_all_slots_unless_a_filter_says_otherwise() -> None:
    assert chosen() == {"host-a": [0, 1, 2, 3], "host-b": [0, 1, 2, 3], "host-c": [0, 1, 2, 3]}
    assert chosen(include="host-b:3,1@host-a:0,2") == {"host-a": [0, 2], "host-b": [1, 3]}
    assert chosen(exclude="host-b@host-a:0@host-c:3") == {"host-a": [1, 2, 3], "host-c": [0, 1, 2]}


def test_every_line_that_cannot_be_read_is_named() -> None:
    text = "host-a slots=4\nhost-a slots=4\nhost-b\nhost-c slots=0\nhost-d slots=x\n-oProxy=x slots=1\n"
    found = refused(text + "host-e slots=4 max_slots=8\nhost-f;id slots=1\n")
    assert [re.search(r"line (\d+)", each)[1] for each in found] == list("2345678")  # type: ignore[index]
    assert "host-a is already on line 1" in found[0]
    assert "slots is a number from 1 to 1024" in found[2]
    assert "DeepSpeed would ignore `max_slots=8`" in found[5]


def test_parts_of_checkpoints_on_the_hosts_of_a_hostfile_are_refused() -> None:
    local = ("checkpoint.node_local=true", "checkpoint.node_local_path=/local")
    problems = problems_of("launcher=deepspeed", "launcher.hostfile=hosts", *local)
    assert "checkpoint.node_local" in [problem.key for problem in problems]


@pytest.mark.parametrize("text", ["", "# nothing\n"])
def test_a_hostfile_without_a_host_is_refused(text: str) -> None:
    assert refused(text) == ["launcher.hostfile: there is no host in it"]


def test_all_that_is_wrong_with_a_filter_is_named() -> None:
    assert refused(include="host-x@host-a:7@host-b:one") == [
        "launcher.include: `host-x` is not in the hostfile",
        "launcher.include: `host-b:one`: not a list of slots",
        "launcher.include: host-a has no slot 7",
    ]
    assert refused(include="host-a", exclude="host-b") == [
        "launcher.exclude: DeepSpeed takes one of launcher.include and launcher.exclude"
    ]
    assert refused(exclude="host-a@host-b@host-c") == ["launcher.exclude: no slot of the hostfile is left"]


def test_different_numbers_of_slots_are_refused_with_a_filter_that_makes_them_equal() -> None:
    Path("hosts").write_text("host-a slots=4\nhost-b slots=2\n")
    (problem,) = read_hosts(Launcher(hostfile="hosts")).problems
    assert problem.fix == "launcher.include=host-a:0,1@host-b:0,1 launcher.exclude=null"
    assert chosen(include="host-a:0,1@host-b:0,1") == {"host-a": [0, 1], "host-b": [0, 1]}


NODE = st.tuples(st.sampled_from(["a", "b", "c"]), st.none() | st.lists(st.integers(0, 2), min_size=1))
FILTERS = st.lists(NODE, min_size=1, max_size=4).map(
    lambda nodes: "@".join(
        name if slots is None else f"{name}:{','.join(map(str, slots))}" for name, slots in nodes
    )
)


@given(text=FILTERS, includes=st.booleans())
@settings(max_examples=60, deadline=None)
def test_filters_mean_what_they_mean_to_deepspeed(text: str, includes: bool) -> None:
    from deepspeed.launcher.runner import parse_inclusion_exclusion

    Path("hosts").write_text("a slots=3\nb slots=3\nc slots=3\n")
    given = Launcher(hostfile="hosts", include=text if includes else None, exclude=None if includes else text)
    pool = {"a": 3, "b": 3, "c": 3}
    theirs = parse_inclusion_exclusion(pool, *((text, "") if includes else ("", text)))
    read = read_hosts(given)
    if read.problems:
        assert len({len(slots) for slots in theirs.values()}) != 1
    else:
        assert {host.name: host.slots for host in read.hosts} == {k: sorted(v) for k, v in theirs.items()}


HOSTFILE = ("launcher=deepspeed", "launcher.hostfile=hosts")


def test_the_plan_counts_the_slots_of_all_hosts() -> None:
    plan = plan_of(*HOSTFILE, "launcher.exclude=host-b")
    launch = plan.launch
    assert (launch.nodes, launch.nproc_per_node, launch.world_size) == (2, 4, 8)
    assert plan.ds_config["train_batch_size"] == 8 * plan.micro_batch * plan.accumulation
    assert launch.files["hostfile"] == "host-a slots=4\nhost-c slots=4\n"
    for argument in ("--include=host-a:0,1,2,3@host-c:0,1,2,3", "--launcher=pdsh", "--master_addr=host-a"):
        assert argument in launch.argv
    assert launch.argv[-2:] == ["zpipe.train.on_host", plan.run_dir]
    assert "GLOO_SOCKET_IFNAME" not in launch.env


def test_several_machines_by_hand_need_no_hostfile_of_the_user() -> None:
    plan = plan_of(
        "launcher=deepspeed", "launcher.nodes=2", "launcher.node_rank=1", "launcher.master_addr=10.0.0.1"
    )
    assert plan.launch.files["hostfile"] == "node-0 slots=1\nnode-1 slots=1\n"
    for argument in ("--no_ssh", "--node_rank=1", "--master_addr=10.0.0.1", "--master_port=29500"):
        assert argument in plan.launch.argv


def keys(problems: list[Problem]) -> list[str]:
    return [problem.key for problem in problems]


def test_what_contradicts_a_hostfile_is_refused_together() -> None:
    found = problems_of(*HOSTFILE, "launcher.nodes=2", "launcher.node_rank=1", "launcher.nproc_per_node=2")
    assert keys(found) == ["launcher.nodes", "launcher.node_rank", "launcher.nproc_per_node"]
    assert keys(problems_of("launcher.hostfile=hosts")) == ["launcher.hostfile"]
    assert keys(problems_of(*HOSTFILE, "launcher.multinode_launcher=slurm")) == [
        "launcher.multinode_launcher"
    ]


def test_slots_are_gpus_of_each_host() -> None:
    (problem,) = problems_of(*HOSTFILE, hardware=gpus(H200, H200))
    assert problem.reason == "it uses slot 3, and this machine has 2 GPUs"
    assert problems_of(*HOSTFILE, "launcher.include=host-a:0,1", hardware=gpus(H200, H200)) == []


def test_what_the_shell_of_a_host_would_change_is_refused(tmp_path: Path) -> None:
    found = problems_of(*HOSTFILE, "launcher.master_addr='a;id'")
    assert keys(found) == ["launcher.master_addr"]
    with pytest.raises(Exception, match=r"hydra.run.dir=/runs/a b: DeepSpeed's runner passes it"):
        plan_of(*HOSTFILE, hardware=CPU, run_dir=Path("/runs/a b"))


def test_neither_a_recipe_nor_a_sweep_sends_a_run_to_hosts() -> None:
    (problem,) = recipe_problems({"launcher": {"hostfile": "hosts"}}, "theirs.yaml")
    assert "may not choose the machines" in problem.reason
    (point,) = plan_sweep([*HOSTFILE, "train.seed=3"])
    assert keys(list(point.problems)) == ["launcher.hostfile"]


VALUES = st.text(
    st.characters(codec="utf-8", exclude_characters="\0\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029")
)


@given(value=VALUES)
@settings(max_examples=25, deadline=None)
def test_a_variable_that_the_runner_exports_arrives_as_given(value: str) -> None:
    """The quotes of the runner, pdsh's percent signs and a shell."""
    from deepspeed.launcher.multinode_runner import PDSHRunner

    line = exported({"PYTHONPATH": value}).splitlines()[0]
    runner = PDSHRunner.__new__(PDSHRunner)
    runner.exports = {}
    runner.add_export(*line.split("=", maxsplit=1))
    command = f'export PYTHONPATH={runner.exports["PYTHONPATH"]}; printf %s "$PYTHONPATH"'
    before, _, after = command.partition("; printf")
    shell = f"{before.replace('%%', '%')}; printf{after}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, check=True)
    assert done.stdout.decode() == value.strip()


def test_no_variable_of_the_user_is_written_into_a_command_line() -> None:
    given = {"MLFLOW_TRACKING_PASSWORD": "pw", "NCCL_DEBUG": "INFO", "PYTHONPATH": "/a", "HOME": "/root"}
    assert without_exports(given) == {"HOME": "/root"}
    assert "pw" not in exported(given)


def test_what_the_runner_exports_by_itself_is_known() -> None:
    from deepspeed.accelerator.cuda_accelerator import CUDA_Accelerator
    from deepspeed.launcher.runner import EXPORT_ENVS

    beginnings = [*EXPORT_ENVS, *CUDA_Accelerator.export_envs(None)]
    assert without_exports(dict.fromkeys(beginnings, "")) == {}


def test_ranks_get_the_settings_of_libraries_and_nothing_of_this_process() -> None:
    given = {"HF_TOKEN": "t", "NCCL_DEBUG": "INFO", "ZPIPE_PARENT": "1:2", "MLFLOW_X": "x", "HOME": "/root"}
    assert inherited(given) == {"HF_TOKEN": "t", "NCCL_DEBUG": "INFO"}
    here = {"RANK": "3", "CUDA_VISIBLE_DEVICES": "1", "HOME": "/home/b"}
    assert merged(here, {"RANK": "0", "CUDA_VISIBLE_DEVICES": "0", "A": "b"}) == {**here, "A": "b"}


def test_an_environment_is_handed_over_while_it_is_served() -> None:
    handover = Handover({"NOTE": "a 'b' \n", "KEY": "x" * 500_000}, "/work")
    with served("unit-test", handover):
        assert received("unit-test") == handover
        with pytest.raises(OSError, match="in use"), served("unit-test", handover):
            pass
    with pytest.raises(OSError, match="refused"):
        received("unit-test")


def test_a_remote_shell_changes_no_word_of_a_command() -> None:
    argv = ["printf", "%s|", "a b", "$(id)", "'", '"']
    *ssh, command = ssh_command("host-a", argv, {"NOTE": "`id`; x"}, 2222)
    assert ssh[-4:] == ["-p", "2222", "--", "host-a"]
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout == "a b|$(id)|'|\"|"


def test_a_line_that_is_no_message_is_none() -> None:
    for line in (b"Welcome to host-b!\n", b"{}x\n", b'{"do": "reboot"}\n', b"[" * 100_000):
        assert message_in(Order, line) is None
    assert message_in(Hello, line_of(Report())) is None
    assert message_in(Order, line_of(Order(do="beat"))) == Order(do="beat")


def test_an_agent_answers_and_ends_with_its_input(tmp_path: Path) -> None:
    hello = Hello(
        node=1,
        run_dir=str(tmp_path / "not" / "here"),
        folder=str(tmp_path),
        plan_digest="",
        python="3.0",
        inherited={},
        chosen={},
        timeout_s=60,
    )
    link = HostLink(1, "host-b", [sys.executable, "-m", AGENT], hello)
    answer = link.answer("hello", time.monotonic() + 60)
    assert answer is not None
    assert [finding.key for finding in answer.findings] == ["python", "hydra.run.dir"]
    link.hang_up()
    link.wait(time.monotonic() + 60)
    assert link.has_ended


def test_the_ending_names_the_host_of_the_rank() -> None:
    places = {0: "node 0 (host-a)", 1: "node 1 (host-b)"}
    evidence = Evidence(returncode=1, rank_exits=(RankExit(1, -9, 1.0),), places=places)
    verdict = classify(evidence)
    assert (verdict.ending, verdict.rank) == ("rank_died", 1)
    assert verdict.reason.startswith("node 1 (host-b): rank 1 was killed by SIGKILL")


def test_the_log_of_a_watcher_is_read_behind_the_name_of_its_host(tmp_path: Path) -> None:
    attempt = RunFolder(tmp_path / "run").begin(1)
    attempt.logs.mkdir()
    attempt.launcher_log.write_text(
        "host-b: [2026-11-26 16:47:09,400] [ERROR] [launch.py:311:sigkill_handler] "
        "['python'] exits with return code = -9\n"
    )
    (attempt.logs / "20261126_rank1.log").write_text("step 1\n")
    assert [(each.rank, each.exit_code) for each in read_rank_exits(attempt)] == [(1, -9)]
