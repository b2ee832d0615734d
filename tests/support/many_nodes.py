"""The start of a run on many nodes, in one process: a thread for each node, and what each rank does first."""

import os
import socket
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tests.support.file_operations import Operations, counted
from tests.support.planning import CPU, plan_of
from zpipe.plans.plan import Plan
from zpipe.runfolder.atomic import write_json
from zpipe.runfolder.event_file import Reporter
from zpipe.runfolder.outcome import Outcome
from zpipe.runfolder.plan_file import folder_of
from zpipe.running import member, runner
from zpipe.train import worker
from zpipe.train.data import _wait_for
from zpipe.train.ranks import Rank
from zpipe.train.tasks.train import _begin

RANKS_OF_A_NODE = 8


def plan_for(nodes: int, run_dir: Path) -> Plan:
    """Of node 0, which listens on the loopback interface."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return plan_of(
        f"launcher.nodes={nodes}",
        "launcher.master_addr=127.0.0.1",
        f"launcher.master_port={port}",
        f"launcher.nproc_per_node={RANKS_OF_A_NODE}",
        "tracking=none",
        run_dir=run_dir,
    )


def start_nodes(plan: Plan) -> Operations:
    """Every node comes as far as the start of its workers. Counts by `node-N`."""
    nodes = plan.launch.nodes
    all_ready = threading.Barrier(nodes, timeout=120)

    def trained(*_: Any) -> Outcome:
        all_ready.wait()
        return Outcome(ending="finished", run_dir=plan.run_dir)

    with (
        counted(Path(plan.run_dir)) as operations,
        patch.object(member, "_train", trained),
        patch.object(runner, "_train_and_record", trained),
    ):
        others = [partial(member.take_part, _of_node(plan, number)) for number in range(1, nodes)]
        _side_by_side([partial(runner.run_plan, plan, CPU), *others])
    return operations


def start_ranks(plan: Plan) -> Operations:
    """Every rank begins, and finds the data that was prepared. Counts by `rank-N`."""
    marker = folder_of(plan).attempt.data_marker("nodes")
    write_json(marker, {"path": "data.arrow"})

    def first_steps(plan: Plan, rank: Rank, reporter: Reporter) -> None:
        _begin(plan, rank, reporter)
        _wait_for(marker, rank)

    given = {"WORLD_SIZE": str(plan.launch.world_size), "LOCAL_WORLD_SIZE": str(RANKS_OF_A_NODE)}
    with counted(Path(plan.run_dir)) as operations, patch.object(worker, "train", first_steps):
        for rank in range(plan.launch.world_size):
            place = {"RANK": str(rank), "LOCAL_RANK": str(rank % RANKS_OF_A_NODE), "ZPIPE_LAUNCH_ID": "nodes"}
            with patch.dict(os.environ, {**given, **place}):
                thread = threading.Thread(target=worker.run, args=(Path(plan.run_dir),), name=f"rank-{rank}")
                thread.start()
                thread.join()
    return operations


def _of_node(plan: Plan, number: int) -> Plan:
    launcher = plan.experiment.launcher.model_copy(update={"node_rank": number})
    return plan.model_copy(update={"experiment": plan.experiment.model_copy(update={"launcher": launcher})})


def _side_by_side(nodes: list[Callable[[], object]]) -> None:
    threads = [threading.Thread(target=node, name=f"node-{number}") for number, node in enumerate(nodes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
