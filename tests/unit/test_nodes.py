"""Several nodes: what a plan requires of them, how they agree, and how they tell each other their state."""

import json
import socket
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support.planning import plan_of, problems_of
from tests.support.plans import begin_attempt, run_in
from zpipe.compose.compose import compose_once
from zpipe.compose.points import plan_sweep
from zpipe.diagnose.classify import classify
from zpipe.diagnose.evidence import Evidence, RankError, from_folder
from zpipe.launchers.rank_exits import RankExit
from zpipe.machine.network import listening, reach
from zpipe.plans.agreement import disagreements
from zpipe.problems import Refusal, refuse_if_any
from zpipe.runfolder.folder import RunFolder
from zpipe.runfolder.nodes import NodeNote, read_note
from zpipe.runfolder.pace import NOTES_PER_SECOND, pace_of
from zpipe.runfolder.plan_file import read_plan
from zpipe.runfolder.progress import RunProgress
from zpipe.running import leader
from zpipe.running.leader import refusals
from zpipe.running.member import take_part
from zpipe.schema.launcher import Launcher
from zpipe.supervise.nodes import Nodes

TWO = ("launcher.nodes=2", "launcher.master_addr=10.0.0.1")


def test_the_world_is_all_processes_of_all_nodes() -> None:
    plan = plan_of(*TWO, "launcher.nproc_per_node=2")
    assert (plan.launch.nodes, plan.launch.nproc_per_node, plan.launch.world_size) == (2, 2, 4)
    assert plan.ds_config["train_batch_size"] == 4 * plan.micro_batch * plan.accumulation


def test_agents_of_several_nodes_meet_on_node_0_and_not_over_loopback() -> None:
    plan = plan_of(*TWO, "launcher.node_rank=1", "launcher.master_port=1234")
    for argument in ("--nnodes=2", "--node-rank=1", "--master-addr=10.0.0.1", "--master-port=1234"):
        assert argument in plan.launch.argv
    assert "GLOO_SOCKET_IFNAME" not in plan.launch.env


def test_with_c10d_node_0_has_the_store_and_the_ranks_are_numbered_by_node() -> None:
    plans = [plan_of(*TWO, "launcher.rdzv_backend=c10d", f"launcher.node_rank={each}") for each in (0, 1)]
    for number, is_host in enumerate(("true", "false")):
        launch = plans[number].launch
        assert "--rdzv-endpoint=10.0.0.1:29500" in launch.argv
        assert f"--rdzv-conf=is_host={is_host}" in launch.argv
        assert launch.env["ZPIPE_NODE_RANK"] == str(number)
    assert any(each.key == "launcher.rdzv_backend" and each.level == "warning" for each in plans[0].notices)
    assert list(disagreements(plans[0], plans[1])) == []


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["launcher.nodes=2"], "launcher.master_addr"),
        ([*TWO, "launcher.node_rank=2"], "launcher.node_rank"),
        ([*TWO, "launcher=accelerate"], "launcher.nodes"),
    ],
)
def test_nodes_that_cannot_meet_are_refused(overrides: list[str], key: str) -> None:
    assert [problem.key for problem in problems_of(*overrides)] == [key]


def test_several_nodes_need_a_run_folder_with_a_name() -> None:
    with pytest.raises(Refusal, match="its default name differs from node to node"):
        compose_once(list(TWO))
    assert compose_once([*TWO, "hydra.run.dir=/runs/one"]).run_dir == Path("/runs/one")


def test_a_sweep_over_several_nodes_is_refused() -> None:
    points = list(plan_sweep([*TWO, "stage.stage=1,2"]))
    assert [[problem.key for problem in each.problems] for each in points] == [["launcher.nodes"]] * 2


def test_nodes_agree_unless_what_matters_differs() -> None:
    first = plan_of(*TWO)
    assert list(disagreements(first, plan_of(*TWO, "launcher.node_rank=1", "tracking.tags.a=b"))) == []
    other = plan_of(*TWO, "launcher.node_rank=1", "train.seed=7")
    newer = other.model_copy(update={"versions": {**other.versions, "torch": "9.9"}})
    found = {problem.key: problem for problem in disagreements(first, newer)}
    assert found.keys() == {"train.seed", "torch"}
    assert found["train.seed"].fix == "train.seed=42"


LOST_SECONDS = Launcher().node_timeout_s
LOOK_SECONDS = pace_of(3).look


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now

    def passes(self, seconds: float = LOOK_SECONDS) -> None:
        self.now += seconds


def several(tmp_path: Path, clock: Clock, count: int = 2) -> list[Nodes]:
    attempt = begin_attempt(tmp_path / "run")
    return [Nodes(attempt, Launcher(nodes=count, node_rank=number), clock) for number in range(count)]


def test_a_node_that_falls_silent_has_failed_after_a_while(tmp_path: Path) -> None:
    clock = Clock()
    first, second = several(tmp_path, clock)
    assert first.pending() == [1]
    second.tell("ready")
    clock.passes()
    assert (first.pending(), first.failed()) == ([], None)
    clock.passes(LOST_SECONDS - 1)
    second.tell()
    assert first.failed() is None
    clock.passes(LOST_SECONDS - 1)
    assert first.failed() is None
    clock.passes(2)
    lost = first.failed()
    assert lost is not None
    assert lost.node == 1


def test_the_other_nodes_learn_from_node_0_which_one_gave_no_sign_of_life(tmp_path: Path) -> None:
    clock = Clock()
    first, second, third = several(tmp_path, clock, 3)
    for each in (first, second, third):
        each.tell("started")
    clock.passes()
    assert [each.failed() for each in (first, second, third)] == [None] * 3
    for _ in range(int(LOST_SECONDS) + 1):  # the third has lost power
        clock.passes(1)
        first.tell()
        second.tell()
        first.failed()
        second.failed()
    lost = second.failed()
    assert lost is not None
    assert (lost.node, lost.ending) == (2, "rank_died")
    assert lost.reason == "gave no sign of life for 60 s"


def test_a_silent_node_0_has_failed(tmp_path: Path) -> None:
    clock = Clock()
    first, second = several(tmp_path, clock)
    first.tell("started")
    assert second.failed() is None
    clock.passes(LOST_SECONDS)
    assert second.failed() is None
    clock.passes()
    lost = second.failed()
    assert lost is not None
    assert lost.node == 0


def test_the_node_on_which_a_failure_began_comes_before_one_that_only_ended(tmp_path: Path) -> None:
    clock = Clock()
    nodes = several(tmp_path, clock, 4)
    seen = []
    nodes[1].tell("ended", ending="failed", reason="closed by peer")
    for _ in range(2):
        clock.passes()
        seen += [nodes[0].failed(), nodes[3].failed()]
        nodes[2].tell("ended", ending="gpu_out_of_memory", reason="full", is_cause=True)
        clock.passes()
    assert [each and each.node for each in seen] == [1, 1, 2, 2]


def test_only_node_0_reads_the_notes_of_all(tmp_path: Path) -> None:
    clock = Clock()
    first, second, third = several(tmp_path, clock, 3)
    third.tell("ended", ending="failed", reason="full", is_cause=True)
    clock.passes()
    assert second.failed() is None
    assert first.failed() is not None
    clock.passes()
    failed = second.failed()
    assert failed is not None
    assert (failed.node, failed.reason) == (2, "full")


def test_a_node_that_failed_by_itself_on_node_0_comes_before_one_that_only_ended(tmp_path: Path) -> None:
    clock = Clock()
    first, second, third = several(tmp_path, clock, 3)
    second.tell("ended", ending="failed", reason="closed by peer")
    clock.passes()
    first.failed()
    first.tell("ended", ending="gpu_out_of_memory", reason="full", is_cause=True)
    clock.passes()
    failed = third.failed()
    assert failed is not None
    assert (failed.node, failed.ending) == (0, "gpu_out_of_memory")


def test_nodes_that_refuse_for_the_same_reason_are_one_problem(tmp_path: Path) -> None:
    clock = Clock()
    nodes = several(tmp_path, clock, 6)
    for each in (nodes[1], nodes[2], nodes[3]):
        each.tell("refused", reason="no such file")
    nodes[5].tell("refused", reason="another version")
    host = socket.gethostname()
    with pytest.raises(Refusal) as caught:
        clock.passes()
        refuse_if_any(refusals(nodes[0], nodes[0].pending()))
    assert [(each.key, each.reason) for each in caught.value.problems] == [
        (f"node 5 ({host})", "another version"),
        (f"nodes 1-3 ({host})", "no such file"),
        ("launcher.nodes", "node 4 did not join within 30 s"),
    ]


@pytest.mark.parametrize("count", [2, 64, 1024, 4096])
def test_the_nodes_together_read_and_write_a_bounded_number_of_notes(count: int) -> None:
    pace = pace_of(count)
    assert count / pace.look <= NOTES_PER_SECOND
    assert count / pace.beat <= NOTES_PER_SECOND
    assert pace.least_timeout > 2 * pace.beat + pace.look


def test_node_0_reads_a_thousand_notes_in_turn_and_none_of_them_more_often_than_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    monkeypatch.setattr("zpipe.supervise.notes.read_note", lambda _, node: read.append(node))
    clock, look = Clock(), pace_of(1024).look
    first = Nodes(begin_attempt(tmp_path / "run"), Launcher(nodes=1024), clock)
    most = 0
    for _ in range(int(3 * look / 0.1)):
        before = len(read)
        first.failed()
        most = max(most, len(read) - before)
        clock.passes(0.1)
    assert sorted(set(read)) == [*range(1, 1024)]
    assert max(Counter(read).values()) <= 3
    assert most <= NOTES_PER_SECOND / 5


def test_more_nodes_than_a_queue_of_connections_reach_node_0() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with listening("127.0.0.1", port):
        for _ in range(300):
            reach("127.0.0.1", port)
    with pytest.raises(OSError, match="refused"):
        reach("127.0.0.1", port)


def test_a_node_reads_the_errors_of_its_own_ranks_alone(tmp_path: Path) -> None:
    run_in(tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    for rank in range(4):
        error = {"rank": rank, "type": "ValueError", "message": "no"}
        folder.attempt.rank_error(rank).write_text(json.dumps(error))
    evidence = from_folder(folder, RunProgress(), (), own_ranks=range(2, 4))
    assert [error.rank for error in evidence.errors] == [2, 3]


def test_a_node_finds_a_run_that_has_finished(tmp_path: Path) -> None:
    run_in(tmp_path / "run", "finished")
    plan = read_plan(tmp_path / "run")
    launcher = plan.experiment.launcher.model_copy(update={"nodes": 2, "node_rank": 1})
    here = plan.model_copy(update={"experiment": plan.experiment.model_copy(update={"launcher": launcher})})
    assert take_part(here).ending == "finished"


def test_a_damaged_note_is_none(tmp_path: Path) -> None:
    attempt = begin_attempt(tmp_path / "run")
    attempt.note(1).parent.mkdir()
    attempt.note(1).write_text('{"node": 1, ')
    assert read_note(attempt, 1) is None


OTHER = NodeNote(node=1, host="b", state="ended", ending="gpu_out_of_memory", reason="rank 2: full")
PEER = RankError(0, "RuntimeError", "Connection closed by peer [10.0.0.2]")


@pytest.mark.parametrize(
    ("own", "ending"),
    [
        ({"errors": (PEER,)}, "gpu_out_of_memory"),
        ({}, "gpu_out_of_memory"),
        ({"rank_exits": (RankExit(0, -9, 1.0),)}, "rank_died"),
        ({"errors": (RankError(0, "ValueError", "no"),)}, "failed"),
        ({"stopped_by": 2}, "interrupted"),
    ],
)
def test_the_ending_comes_from_the_node_on_which_the_failure_began(own: dict[str, Any], ending: str) -> None:
    verdict = classify(Evidence(returncode=1, other_node=OTHER, **own))
    assert verdict.ending == ending
    assert verdict.reason.startswith("node 1 (b): rank 2: full") == (ending == "gpu_out_of_memory")


def test_node_0_waits_until_its_own_name_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of a pod is known some seconds after its start."""
    answers: list[Exception | None] = [socket.gaierror(), socket.gaierror(), None]

    def lookup(host: str, port: int) -> None:
        answer = answers.pop(0)
        if answer is not None:
            raise answer

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    leader.wait_for_name("job-node-0-0.job", 29500, Nodes(begin_attempt(tmp_path), Launcher(nodes=2)))
    assert answers == []
