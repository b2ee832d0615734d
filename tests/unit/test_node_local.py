"""Parts of checkpoints on the disks of nodes: what a node offers, what all agree on, what is refused."""

from pathlib import Path

import pytest

from tests.support.checkpoints import edit_manifest, flip_bit, make_checkpoint
from tests.support.plans import begin_attempt, make_plan
from zpipe.checkpoints.folders import checkpoints_in
from zpipe.checkpoints.home import checkpoint_home
from zpipe.checkpoints.rotation import remove_later
from zpipe.plans.plan import Launch, Plan
from zpipe.problems import Refusal
from zpipe.runfolder.attempt_start import read_start
from zpipe.running.node_local import agree, intact_steps

TWO_NODES = Launch(
    launcher="torchrun", device="cpu", nproc_per_node=1, world_size=2, nodes=2, argv=["torchrun"], env={}
)


def plan_of_node(folder: Path, node: int = 0) -> Plan:
    experiment = {
        "checkpoint.node_local": True,
        "checkpoint.node_local_path": str(folder / "disk"),
        "launcher.nodes": 2,
        "launcher.node_rank": node,
        "stage.stage": 2,
    }
    return make_plan(folder / "run", experiment=experiment, launch=TWO_NODES)


def make_parts(plan: Plan, *steps: int, node: int = 0) -> None:
    for step in steps:
        edit_manifest(make_checkpoint(checkpoint_home(plan), step), node=node, nodes=2, world_size=2)


def offered(plan: Plan) -> tuple[list[int], list[str]]:
    said: list[str] = []
    return intact_steps(plan, said.append), said


def refused(plan: Plan) -> str:
    with pytest.raises(Refusal) as refusal:
        intact_steps(plan, lambda _: None)
    return str(refusal.value)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    plan = plan_of_node(tmp_path)
    begin_attempt(tmp_path / "run")
    return plan


def test_a_node_offers_its_newest_intact_parts_and_names_the_damaged(plan: Plan) -> None:
    make_parts(plan, 10, 20, 30, 40, 50)
    flip_bit(checkpoint_home(plan) / "checkpoint-40" / "model.safetensors", 5)
    steps, said = offered(plan)
    assert steps == [50, 30, 20]
    assert said == ["warning: checkpoint-40 on this node is passed over: changed: model.safetensors"]


def test_a_folder_of_another_node_is_refused(plan: Plan, tmp_path: Path) -> None:
    offered(plan)
    other = plan_of_node(tmp_path, node=1)
    assert "it is the folder of node 0, and this is node 1" in refused(other)


def test_parts_for_another_number_of_nodes_or_of_another_run_are_refused(plan: Plan) -> None:
    make_parts(plan, 10)
    folder = checkpoint_home(plan) / "checkpoint-10"
    edit_manifest(folder, nodes=3)
    assert "launcher.nodes=2: checkpoint-10 is a part for 3 nodes" in refused(plan)
    edit_manifest(folder, nodes=2, world_size=4)
    assert "parts are not distributed anew" in refused(plan)
    edit_manifest(folder, run_id="another-run")
    assert "written by the run another-run" in refused(plan)


def test_a_folder_that_cannot_be_used_is_refused(plan: Plan) -> None:
    home = checkpoint_home(plan)
    home.parent.parent.mkdir(exist_ok=True)
    home.parent.write_text("a file")
    assert "this node cannot use it" in refused(plan)


def test_the_run_goes_on_from_the_newest_step_that_all_nodes_have(plan: Plan, tmp_path: Path) -> None:
    attempt = begin_attempt(tmp_path / "run", 2)
    agree(plan, attempt, {0: [40, 30, 20], 1: [20, 10]}, lambda _: None)
    start = read_start(attempt)
    assert start.step == 20
    assert start.checkpoint == str(checkpoint_home(plan) / "checkpoint-20")


def test_nodes_without_a_common_step_are_refused_with_what_they_have(plan: Plan, tmp_path: Path) -> None:
    attempt = begin_attempt(tmp_path / "run", 2)
    with pytest.raises(Refusal) as refusal:
        agree(plan, attempt, {0: [40], 1: [], 2: []}, lambda _: None)
    assert "(node 0: 40; nodes 1-2: none)" in str(refusal.value)


def test_later_parts_of_the_run_are_removed_before_new_ones_are_written(plan: Plan) -> None:
    make_parts(plan, 10, 20, 30)
    edit_manifest(checkpoint_home(plan) / "checkpoint-30", run_id="another-run")
    remove_later(checkpoint_home(plan), "this-run", 10)
    assert [each.name for each in checkpoints_in(checkpoint_home(plan))] == ["checkpoint-30", "checkpoint-10"]
