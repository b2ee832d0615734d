"""Serves MLflow's web page for a store: with few processes, on loopback by default, and with a clean end.

Measured with MLflow 3.17 on two cores: the default server has 15 processes, uses 2.3 GB, takes 33 s to start
and survives SIGINT. With one worker and without job execution, it has 2 processes, uses 0.5 GB and takes 8 s.
"""

import errno
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import IO

import psutil

from zpipe.exits import Exit
from zpipe.machine.guard import guarded
from zpipe.problems import Problem, Refusal
from zpipe.record.client import open_client, reporting_failures
from zpipe.record.store import artifact_root, default_uri, prepare_store
from zpipe.redact import redact, redact_uri

FIRST_PORT = 5000
RUNS_AND_MODELS = "?workflowType=machine_learning"
_START_SECONDS = 120.0
_STOP_SECONDS = 10.0
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def serve(uri: str, host: str, port: int | None, say: Callable[[str], None]) -> int:
    """Serves until Ctrl-C and returns the exit code. `say` prints a line, which may contain a path, at once.

    Raises Refusal if the store, the host or the port cannot be used, StoreUnreachable if a database fails.
    """
    if uri.startswith(("http://", "https://")):
        say(f"This store is a server with its own web page: {redact_uri(uri)}")
        return Exit.FINISHED
    chosen = _choose_port(host, port)
    with reporting_failures(uri):
        prepare_store(uri)
    url = f"http://{_shown_host(host)}:{chosen}"
    say(f"Starting MLflow for {redact_uri(uri)} ...")
    with (
        tempfile.TemporaryFile() as log,
        guarded("ZPIPE_UI_ID") as mark,
        _server(_argv(host, chosen), {**_environment(uri), **mark}, log) as process,
    ):
        if not _answers(process, host, chosen):
            # Printed only on failure, because a healthy server also logs a page of advice and warnings.
            log.seek(0)
            say(redact(log.read().decode(errors="replace"), uri))
            return Exit.FINISHED if process.returncode == 0 else Exit.ENVIRONMENT
        say(f"MLflow: {url}{_newest_runs(uri)}   (press Ctrl-C to stop)")
        process.wait()
    return Exit.FINISHED


def _newest_runs(uri: str) -> str:
    """The page of the experiment with the newest run; MLflow's own first page would show traces."""
    with reporting_failures(uri):
        client = open_client(uri)
        ids = [each.experiment_id for each in client.search_experiments()]
        newest = client.search_runs(ids, max_results=1, order_by=["attributes.start_time DESC"])
    return f"/#/experiments/{newest[0].info.experiment_id}/runs{RUNS_AND_MODELS}" if newest else ""


def url_of_run(base_url: str, experiment_id: str, run_id: str) -> str:
    """The URL of a run's page on an MLflow server."""
    return f"{base_url.rstrip('/')}/#/experiments/{experiment_id}/runs/{run_id}"


def ui_command(uri: str, base: Path | None = None) -> str:
    """The command that serves this store, typed in the folder `base`, by default the current folder."""
    if uri == default_uri(base or Path.cwd()):
        return "zpipe ui"
    return shlex.join(["zpipe", "ui", "--uri", redact_uri(uri)])


def _argv(host: str, port: int) -> list[str]:
    argv = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", "1"]
    argv += ["--uvicorn-opts", "--log-level warning"]
    if not _is_loopback(host):
        # By default MLflow answers requests to localhost only, and refuses requests from its own page.
        names = _names(host)
        argv += ["--allowed-hosts", ",".join([*names, *(f"{name}:{port}" for name in names)])]
        argv += ["--cors-allowed-origins", ",".join(f"http://{name}:{port}" for name in names)]
    return argv


def _environment(uri: str) -> dict[str, str]:
    """Passes the store in the environment, because every user can read the arguments of a process."""
    environment = {
        **os.environ,
        "MLFLOW_BACKEND_STORE_URI": uri,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    environment.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    root = artifact_root(uri, Path.cwd())
    if root is not None:
        environment["MLFLOW_ARTIFACTS_DESTINATION"] = root
    return environment


@contextmanager
def _server(
    argv: list[str], environment: dict[str, str], log: IO[bytes]
) -> Iterator["subprocess.Popen[bytes]"]:
    """Runs the server in its own process session, and ends the whole session when the block is left."""
    with subprocess.Popen(
        argv,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:

        def end(number: int, frame: FrameType | None) -> None:
            process.terminate()

        previous = {number: signal.signal(number, end) for number in _ENDING}
        try:
            yield process
        finally:
            _end_tree(process)
            for number, handler in previous.items():
                signal.signal(number, handler)


def _end_tree(process: "subprocess.Popen[bytes]") -> None:
    """Ends all processes of the server: SIGTERM first, then SIGKILL."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _answers(process: "subprocess.Popen[bytes]", host: str, port: int) -> bool:
    """Waits until the server answers; False if it ended first or did not answer in time."""
    health = f"http://{'127.0.0.1' if host == '0.0.0.0' else _shown_host(host)}:{port}/health"  # noqa: S104
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(health, timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    return False


def _choose_port(host: str, port: int | None) -> int:
    """The requested port; by default port 5000, or any free port if 5000 is in use."""
    if port is not None:
        if not _is_free(host, port):
            reason = "another program listens on this port"
            raise Refusal([Problem("--port", port, reason, "a free port", "leave --port out")])
        return port
    if _is_free(host, FIRST_PORT):
        return FIRST_PORT
    with closing(socket.socket(_family(host))) as listener:
        listener.bind((host, 0))
        return int(listener.getsockname()[1])


def _is_free(host: str, port: int) -> bool:
    with closing(socket.socket(_family(host))) as listener:
        # As servers do: a port is free even if its last connections are still closing.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise Refusal([_cannot_listen(host, port, error)]) from error
        except UnicodeError as error:
            raise Refusal([_unknown_host(host)]) from error
    return True


def _cannot_listen(host: str, port: int, error: OSError) -> Problem:
    if error.errno in (errno.EACCES, errno.EPERM):
        reason = "only root can listen on this port"
        return Problem("--port", port, reason, "1024 to 65535", "leave --port out")
    return _unknown_host(host)


def _unknown_host(host: str) -> Problem:
    reason = "this machine does not have this address"
    return Problem("--host", host, reason, "a name or address of this machine", "leave --host out")


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def _shown_host(host: str) -> str:
    if host in ("0.0.0.0", "::"):  # noqa: S104
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host


def _names(host: str) -> list[str]:
    """The names and addresses by which a browser may reach this machine."""
    names = ["localhost", "127.0.0.1", socket.gethostname(), socket.getfqdn(), _shown_host(host)]
    for addresses in psutil.net_if_addrs().values():
        names += [each.address for each in addresses if each.family == socket.AF_INET]
    return list(dict.fromkeys(names))
