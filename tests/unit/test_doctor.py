"""`zpipe doctor`: what is said of machines, nodes and ranks, and what is left behind."""

import socket
import threading
from pathlib import Path

import pytest

from tests.support.planning import CPU, plan_of
from tests.support.plans import begin_attempt
from zpipe.cli.doctor_tables import show_findings
from zpipe.cli.main import main
from zpipe.exits import Exit
from zpipe.machine.network import listening, reach
from zpipe.plans.plan import Plan
from zpipe.problems import Refusal
from zpipe.runfolder.folder import Attempt
from zpipe.runfolder.preflight import NodeReport, RankReport, write_node_report, write_rank_report
from zpipe.running.leader import gather
from zpipe.running.preflight import Findings, check_together, meeting_place
from zpipe.running.preflight_ranks import complaints
from zpipe.schema.launcher import Launcher
from zpipe.supervise.nodes import Nodes
from zpipe.train.ranks import Rank, rank_number

Captured = pytest.CaptureFixture[str]
TWO = ("launcher.nodes=2", "launcher.master_addr=10.0.0.1", "launcher.nproc_per_node=2")


def node(number: int, **more: object) -> NodeReport:
    values = {
        "node": number,
        "host": f"n{number}",
        "python": "3.11.7",
        "versions": {"torch": "2.13.0", "deepspeed": "0.19.8"},
        "gpus": ["NVIDIA H100"] * 8,
        "cores": 64,
        "memory": 2**39,
        "run_disk_free": 2**40,
    }
    return NodeReport.model_validate({**values, **more})


def rank(number: int, **more: object) -> RankReport:
    return RankReport.model_validate({"rank": number, "node": number // 2, "host": f"n{number // 2}", **more})


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_this_machine_is_shown_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["doctor", "launcher.device=cpu", f"hydra.run.dir={tmp_path / 'run'}"]) == Exit.FINISHED
    out = capsys.readouterr().out
    assert socket.gethostname() in out
    assert "all checks passed" in out
    assert list(tmp_path.iterdir()) == []


def test_a_plan_that_is_refused_is_refused_as_by_zpipe_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["doctor", "stage=2", "offload=nvme"]) == Exit.REFUSED
    assert "offload.offload_optimizer.device=nvme" in capsys.readouterr().err


def test_an_nvme_path_that_does_not_exist_is_missing_and_not_created(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("zpipe.machine.probes._libaio", lambda *_: [])
    monkeypatch.setattr("zpipe.machine.probes._locked_memory", lambda *_: [])
    nvme = tmp_path / "nvme"
    given = ["stage=3", "offload=nvme", "launcher.device=cpu", f"offload.nvme_path={nvme}"]
    assert main(["doctor", *given]) == Exit.ENVIRONMENT
    assert f"offload.nvme_path={nvme} does not exist there" in capsys.readouterr().err
    assert not nvme.exists()


def test_a_launcher_that_would_start_something_else_is_refused(tmp_path: Path) -> None:
    plan = plan_of("launcher=inprocess", run_dir=tmp_path / "run")
    with pytest.raises(Refusal, match="starts no ranks that could be checked"):
        check_together(plan, CPU)
    assert list(tmp_path.iterdir()) == []


def test_files_of_the_user_and_of_a_run_stay(tmp_path: Path) -> None:
    run = tmp_path / "run"
    begin_attempt(run)
    (run / ".doctor").mkdir()
    (run / ".doctor" / "mine").write_text("")
    with meeting_place(run) as attempt:
        assert attempt.path.parent == run / ".doctor"
        (attempt.path / "told").write_text("")
    assert sorted(file.name for file in run.iterdir()) == [".doctor", "attempt-1"]
    assert [file.name for file in (run / ".doctor").iterdir()] == ["mine"]


def test_a_folder_behind_a_link_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".doctor").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Refusal, match="cannot be written"), meeting_place(tmp_path / "run"):
        pass
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_nothing_is_removed_that_was_there_before(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "accelerate.yaml").write_text("mine")
    (tmp_path / "run" / ".doctor").mkdir(parents=True)
    (tmp_path / "run" / ".doctor" / "launch").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Refusal, match="left from a zpipe doctor"), meeting_place(tmp_path / "run"):
        pass
    assert (tmp_path / "elsewhere" / "accelerate.yaml").read_text() == "mine"


def test_two_doctors_do_not_use_the_same_folder(tmp_path: Path) -> None:
    with (
        meeting_place(tmp_path / "run"),
        pytest.raises(Refusal, match="another zpipe doctor"),
        meeting_place(tmp_path / "run"),
    ):
        pass


def told(plan: Plan, folder: Path, *ranks: RankReport) -> Attempt:
    attempt = begin_attempt(folder)
    for number in range(plan.launch.nodes):
        write_node_report(attempt, node(number))
    for report in ranks:
        write_rank_report(attempt, report)
    return attempt


def test_each_rank_that_did_not_measure_is_named_with_its_host_and_the_same_reason_once(
    tmp_path: Path,
) -> None:
    plan = plan_of(*TWO, run_dir=tmp_path)
    attempt = told(plan, tmp_path, rank(0), rank(1), rank(2, stage="joined", error="RuntimeError: no"))
    logs = Attempt(attempt.path, node=1).logs
    logs.mkdir(parents=True)
    (logs / "launcher.log").write_text("No module named torch\n")
    assert [(each.key, each.reason) for each in complaints(plan, attempt, None)] == [
        ("ranks 0-1 (n0)", "did not join the others"),
        ("rank 2 (n1)", "did not finish the all-reduce: RuntimeError: no"),
        ("rank 3 (n1)", "did not start: No module named torch"),
    ]


def test_a_damaged_report_is_a_rank_that_did_not_start(tmp_path: Path) -> None:
    plan = plan_of(run_dir=tmp_path)
    attempt = told(plan, tmp_path)
    (attempt.path / "rank0.preflight.json").write_text('{"rank": 0, ')
    assert [each.reason for each in complaints(plan, attempt, None)] == ["did not start"]


def test_the_table_has_the_clock_the_disks_and_the_slowest_rank_of_each_node(capsys: Captured) -> None:
    seconds = {1 << 20: 0.001, 1 << 26: 0.01}
    ranks = [rank(each, stage="measured", seconds=seconds) for each in range(4)]
    ranks[3] = rank(3, stage="measured", seconds={1 << 20: 0.002, 1 << 26: 0.02})
    show_findings(Findings([node(0), node(1, swap_disk_free=2**40)], ranks, {1: 5.25}))
    shown = capsys.readouterr()
    first, second = (line for line in shown.out.splitlines() if line[:2] in ("0 ", "1 "))
    assert "8 x NVIDIA H100" in first
    assert f"{2**26 / 0.01 / 1e9 * 1.5:.2f} GB/s" in first
    assert f"{2**26 / 0.02 / 1e9 * 1.5:.2f} GB/s" in second
    assert "+5.250 s" in second
    assert second.count("1.0 TiB free") == 2
    assert "all-reduce of 64.0 MiB over 4 ranks: 20.00 ms, 3.36 GB/s, bus 5.03 GB/s" in shown.out
    assert shown.err == "warning: the clock of node 1 (n1) is 5.2 s ahead of that of node 0\n"


def test_a_clock_that_differs_is_a_warning_before_a_run(tmp_path: Path, capsys: Captured) -> None:
    port = free_port()
    plan = plan_of("launcher.nodes=2", "launcher.master_addr=127.0.0.1", f"launcher.master_port={port}")
    attempt = begin_attempt(tmp_path)
    Nodes(attempt, Launcher(nodes=2, node_rank=1)).tell("ready", clock_ahead_s=-7.0)
    gather(plan, Nodes(attempt, Launcher(nodes=2)))
    host = socket.gethostname()
    assert f"the clock of node 1 ({host}) is 7.0 s behind that of node 0" in capsys.readouterr().err


def test_a_node_learns_the_time_of_node_0() -> None:
    port = free_port()
    with listening("127.0.0.1", port):
        ahead = reach("127.0.0.1", port)
    assert ahead is not None
    assert abs(ahead) < 1


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH\n", b"nan\n", b"9" * 1000])
def test_what_tells_no_time_is_reached_and_has_no_clock(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        ahead = reach("127.0.0.1", server.getsockname()[1])
        thread.join()
    assert ahead is None or answer.startswith(b"9")


def test_ranks_are_numbered_by_their_node_whatever_order_c10d_chose(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = {"RANK": "0", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4", "WORLD_SIZE": "8"}
    assert rank_number(chosen) == 0
    for name, value in {**chosen, "ZPIPE_NODE_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    rank = Rank.from_environment()
    assert (rank.index, rank.node) == (5, 1)
