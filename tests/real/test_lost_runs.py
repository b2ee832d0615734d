"""A tracking server that is away loses no run; one that was set up again gets everything anew."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.plans import make_plan
from tests.support.recording import history, metrics, phase, run_of, write_events
from tests.support.server import Server
from zpipe.record.record_run import record_run
from zpipe.running.recording import record_now


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    server.start()
    yield server
    server.kill()


def test_only_a_server_that_answers_loses_a_run(server: Server, tmp_path: Path) -> None:
    plan = make_plan(tmp_path / "run", experiment={"tracking.uri": server.uri})
    folder = Path(plan.run_dir)
    write_events(plan, phase("model"), metrics(1, loss=4.0))
    first = record_run(folder)
    assert first.ok
    server.kill()
    write_events(plan, ("attempt", {"number": 2, "step": 1}), metrics(2, loss=3.0), attempt=2)
    away = record_now(folder)
    assert (away.ok, away.run_id) == (False, first.run_id)
    server.start()
    assert record_now(folder).run_id == first.run_id
    server.kill()
    (tmp_path / "server.db").unlink()
    assert record_now(folder).run_id == first.run_id  # complete, as far as anybody can tell
    server.start()
    again = record_now(folder)
    assert again.ok
    assert f"replaces run {first.run_id}, which is gone" in (again.note or "")
    run = run_of(server.client(), plan)
    assert (run.info.run_id, run.info.status) == (again.run_id, "KILLED")
    assert history(server.client(), run, "loss") == [(1, 4.0), (2, 3.0)]
