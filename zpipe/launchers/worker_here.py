"""The worker in this process, for launcher=inprocess: no agent sets its ranks, so this does."""

import os
import socket
import uuid

from zpipe.plan.plan import Plan


def run_worker(plan: Plan) -> int:
    """Runs the only rank in this process and returns its exit code."""
    os.environ.update(plan.launch.env)
    os.environ.update(
        RANK="0",
        LOCAL_RANK="0",
        WORLD_SIZE="1",
        LOCAL_WORLD_SIZE="1",
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(_free_port()),
        ZPIPE_LAUNCH_ID=uuid.uuid4().hex,
    )
    from zpipe.train.worker import run

    return int(run(plan.folder))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
