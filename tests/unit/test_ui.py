"""`zpipe ui`: MLflow's server, started without secrets in its arguments and ended without remains."""

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import psutil
import pytest

from zpipe.problems import Refusal
from zpipe.record import ui
from zpipe.record.store import default_uri, prepare_store


def test_the_store_is_passed_where_others_cannot_read_it() -> None:
    uri = "postgresql://me:s3cr3t@host/db"
    assert not any("s3cr3t" in each for each in ui._argv("127.0.0.1", 5000))
    environment = ui._environment(uri)
    assert environment["MLFLOW_BACKEND_STORE_URI"] == uri
    assert environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"


def test_other_hosts_may_ask_only_if_the_server_listens_to_them() -> None:
    assert "--allowed-hosts" not in ui._argv("127.0.0.1", 5000)
    argv = ui._argv("0.0.0.0", 5000)  # noqa: S104
    assert f"{socket.gethostname()}:5000" in argv[argv.index("--allowed-hosts") + 1].split(",")
    assert f"http://{socket.gethostname()}:5000" in argv[argv.index("--cors-allowed-origins") + 1].split(",")


def test_a_taken_port_is_refused_if_asked_for_and_avoided_if_not(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        taken = listener.getsockname()[1]
        with pytest.raises(Refusal):
            ui._choose_port("127.0.0.1", taken)
        monkeypatch.setattr(ui, "FIRST_PORT", taken)
        assert ui._choose_port("127.0.0.1", None) != taken


def test_a_server_has_its_own_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert ui.serve("https://me:s3cr3t@mlflow.example") == 0
    assert "https://me:***@mlflow.example" in capsys.readouterr().out


def test_the_page_of_a_run() -> None:
    assert ui.url_of_run("http://h:5000/", "1", "abc") == "http://h:5000/#/experiments/1/runs/abc"


@pytest.mark.real
def test_it_serves_until_ctrl_c_and_leaves_no_process(tmp_path: Path) -> None:
    uri = default_uri(tmp_path)
    prepare_store(uri)
    code = f"import sys; from zpipe.record.ui import serve; sys.exit(serve({uri!r}))"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=os.environ
    )
    assert process.stdout is not None
    process.stdout.readline()
    address = process.stdout.readline().split()[1]
    with urllib.request.urlopen(address, timeout=10) as page:  # noqa: S310
        assert b"<html" in page.read()
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    assert not psutil.wait_procs(children, timeout=5)[1]
