"""What docs/scaling.md says that a run costs, counted in the start of one on 128 nodes with 1,024 ranks."""

import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support.file_operations import Operations, counted
from tests.support.many_nodes import plan_for, start_nodes, start_ranks
from tests.support.plans import begin_attempt, make_plan
from tests.support.process import REPOSITORY
from tests.support.recording import metrics, phase, write_events
from zpipe.plans.plan import Plan
from zpipe.record.record_run import record_run
from zpipe.runfolder.folder import RunFolder
from zpipe.runfolder.pace import Every, pace_of
from zpipe.runfolder.run_events import RunEvents
from zpipe.schema.launcher import Launcher
from zpipe.supervise.nodes import Nodes

KINDS = ("opened", "listed", "changed", "looked")


def documented(what: str) -> Counter[str]:
    """The row of this name in the tables of docs/scaling.md."""
    for line in (REPOSITORY / "docs" / "scaling.md").read_text().splitlines():
        name, *cells = (cell.strip() for cell in line.strip("| ").split("|"))
        if name == what:
            return Counter(dict(zip(KINDS, (int(cell.replace(",", "")) for cell in cells), strict=True)))
    raise LookupError(what)


def is_within(found: Counter[str], limit: Counter[str]) -> bool:
    return all(found[kind] <= limit[kind] for kind in KINDS)


@pytest.fixture(scope="module", params=[4, 128])
def plan(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return plan_for(request.param, tmp_path_factory.mktemp("scaling") / "run")


@pytest.fixture(scope="module")
def started(plan: Plan) -> tuple[Operations, int]:
    """The counts, and how often each node had time to look."""
    begin = time.monotonic()
    operations = start_nodes(plan)
    return operations, 1 + int((time.monotonic() - begin) / pace_of(plan.launch.nodes).look)


def test_only_node_0_does_more_for_more_nodes(plan: Plan, started: tuple[Operations, int]) -> None:
    operations, looks = started
    limit = documented("node 0")
    for kind, count in documented("node 0, for each other node and look").items():
        limit[kind] += count * looks * (plan.launch.nodes - 1)
    assert is_within(operations["node-0"], limit), operations["node-0"]


def test_every_other_node_does_the_same_however_many_there_are(
    plan: Plan, started: tuple[Operations, int]
) -> None:
    operations, looks = started
    limit = documented("each other node")
    for kind, count in documented("each other node, for each look").items():
        limit[kind] += count * looks
    others = [operations[f"node-{number}"] for number in range(1, plan.launch.nodes)]
    assert [each for each in others if not is_within(each, limit)] == []


def test_every_rank_does_the_same_however_many_there_are(plan: Plan, started: tuple[Operations, int]) -> None:
    del started  # the run has begun
    ranks = start_ranks(plan)
    assert len(ranks) == plan.launch.world_size
    assert is_within(ranks.pop("rank-0"), documented("rank 0")), ranks
    assert {rank: each for rank, each in ranks.items() if not is_within(each, documented("each rank"))} == {}
    assert {each["changed"] for each in ranks.values()} == {0}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("count", [8, 512])
def test_all_nodes_together_do_no_more_in_a_second_than_the_documentation_says(
    count: int, tmp_path: Path
) -> None:
    attempt, clock, seconds = begin_attempt(tmp_path / "run"), Clock(), 5
    attempt.events.touch()
    nodes = [Nodes(attempt, Launcher(nodes=count, node_rank=number), clock) for number in range(count)]
    follows = [(Every(pace_of(count).look, clock), RunEvents(RunFolder(tmp_path / "run"))) for _ in nodes]
    for node in nodes:
        node.tell("started")
    with counted(tmp_path) as operations:
        for _ in range(10 * seconds):
            clock.now += 0.1
            for node, (looks, events) in zip(nodes, follows, strict=True):
                node.tell()
                assert node.failed() is None
                if looks.is_due():
                    assert list(events.read_new()) == []
    (total,) = operations.values()
    limit = documented("all nodes, in a second")
    assert is_within(Counter({kind: total[kind] // seconds for kind in KINDS}), limit), total


def calls_for(plan: Plan, base: Path, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """The calls to MLflow for the record of a run with 1,000 logged steps."""
    from mlflow import MlflowClient

    calls: Counter[str] = Counter()

    def counting(client: MlflowClient, name: str) -> Any:
        found = object.__getattribute__(client, name)
        if callable(found) and not name.startswith("_"):
            calls[name] += 1
        return found

    steps = (metrics(step, loss=1.0, grad_norm=1.0) for step in range(1000))
    write_events(plan, phase("model"), phase("train"), *steps, phase("done"))
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "__getattribute__", counting)
        assert record_run(Path(plan.run_dir), base).ok
    return calls


def test_mlflow_is_called_as_often_for_a_thousand_nodes_as_for_one(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = make_plan(tmp_path / "one")
    launch = one.launch.model_copy(update={"nodes": 1024, "nproc_per_node": 8, "world_size": 8192})
    many = make_plan(tmp_path / "many", launch=launch)
    first, second = (calls_for(each, base, monkeypatch) for each in (one, many))
    first.pop("create_experiment", None)
    assert second == first
    assert second["log_batch"] == 4  # the parameters, and 500 events at a time
    assert second.total() <= 20
