"""`zpipe ui` serves MLflow without secrets in process arguments, and leaves no processes."""

import errno
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import psutil
import pytest

from zpipe.cli.main import main
from zpipe.problems import Refusal
from zpipe.record import ui
from zpipe.record.store import default_uri, prepare_store


def test_store_is_passed_in_the_environment() -> None:
    uri = "postgresql://me:s3cr3t@host/db"
    assert not any("s3cr3t" in each for each in ui._argv("127.0.0.1", 5000))
    environment = ui._environment(uri)
    assert environment["MLFLOW_BACKEND_STORE_URI"] == uri
    assert environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"


def test_other_hosts_are_allowed_only_if_the_server_listens_to_them() -> None:
    assert "--allowed-hosts" not in ui._argv("127.0.0.1", 5000)
    argv = ui._argv("0.0.0.0", 5000)  # noqa: S104
    assert f"{socket.gethostname()}:5000" in argv[argv.index("--allowed-hosts") + 1].split(",")
    assert f"http://{socket.gethostname()}:5000" in argv[argv.index("--cors-allowed-origins") + 1].split(",")


def test_port_in_use_is_refused_if_requested_and_avoided_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        taken = listener.getsockname()[1]
        with pytest.raises(Refusal):
            ui._choose_port("127.0.0.1", taken)
        monkeypatch.setattr(ui, "FIRST_PORT", taken)
        assert ui._choose_port("127.0.0.1", None) != taken


def test_tracking_server_is_not_served_again() -> None:
    lines: list[str] = []
    assert ui.serve("https://me:s3cr3t@mlflow.example", "127.0.0.1", None, lines.append) == 0
    assert "https://me:***@mlflow.example" in lines[0]


def test_url_of_a_run() -> None:
    assert ui.url_of_run("http://h:5000/", "1", "abc") == "http://h:5000/#/experiments/1/runs/abc"


@pytest.mark.parametrize("port", ["0", "65536", "99999999", "x"])
def test_invalid_port_is_refused(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ui", "--port", port]) == 2
    assert "allowed: 1 to 65535" in capsys.readouterr().err


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid", "a" * 64])
def test_address_of_another_machine_is_refused(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ui", "--host", host]) == 2
    assert "this machine does not have this address" in capsys.readouterr().err


@pytest.mark.parametrize("error", [errno.EACCES, errno.EROFS, errno.EPERM])
def test_store_in_a_read_only_folder_is_refused(
    error: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def mkdir(*arguments: object, **options: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Path, "mkdir", mkdir)
    assert main(["ui"]) == 2
    assert f"mlflow.db cannot be created: {os.strerror(error)}" in capsys.readouterr().err


@pytest.mark.real
def test_ctrl_c_ends_all_processes(tmp_path: Path) -> None:
    uri = default_uri(tmp_path)
    prepare_store(uri)
    argv = [sys.executable, "-m", "zpipe", "ui", "--uri", uri]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
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
