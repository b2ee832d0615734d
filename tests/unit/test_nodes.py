"""Several nodes: what a plan requires of them, how they agree, and how they tell each other their state."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.planning import plan_of, problems_of
from tests.support.plans import begin_attempt, run_in
from zpipe.compose.compose import compose_once
from zpipe.compose.points import plan_sweep
from zpipe.diagnose.classify import classify
from zpipe.diagnose.evidence import Evidence, RankError
from zpipe.launchers.rank_exits import RankExit
from zpipe.plans.agreement import disagreements
from zpipe.problems import Refusal
from zpipe.runfolder.nodes import NodeNote, read_note
from zpipe.runfolder.plan_file import read_plan
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


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def pair(tmp_path: Path, clock: Clock) -> tuple[Nodes, Nodes]:
    attempt = begin_attempt(tmp_path / "run")
    first, second = (Launcher(nodes=2, node_rank=number) for number in range(2))
    return Nodes(attempt, first, clock), Nodes(attempt, second, clock)


def test_a_node_that_falls_silent_has_failed_after_a_while(tmp_path: Path) -> None:
    clock = Clock()
    first, second = pair(tmp_path, clock)
    assert first.pending() == [1]
    second.tell("ready")
    assert (first.pending(), first.failed()) == ([], None)
    clock.now = LOST_SECONDS - 1
    second.tell()
    assert first.failed() is None
    clock.now = 2 * LOST_SECONDS - 2
    assert first.failed() is None
    clock.now = 2 * LOST_SECONDS
    lost = first.failed()
    assert lost is not None
    assert lost.node == 1


def test_the_node_on_which_a_failure_began_comes_before_one_that_only_ended(tmp_path: Path) -> None:
    attempt = begin_attempt(tmp_path / "run")
    nodes = [Nodes(attempt, Launcher(nodes=3, node_rank=number), Clock()) for number in range(3)]
    nodes[1].tell("ended", ending="failed", reason="closed by peer")
    nodes[2].tell("ended", ending="gpu_out_of_memory", reason="full", is_cause=True)
    failed = nodes[0].failed()
    assert failed is not None
    assert failed.ending == "gpu_out_of_memory"


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
