"""Real PostgreSQL and MariaDB servers on loopback, as an unprivileged user, in a folder of the test."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from urllib.parse import quote

PASSWORD = "c4n@ry:Pa/ss%w0rd?#5577"  # noqa: S105 - must appear nowhere but in the URI
USER = "mlf"
SOCKET_FOLDER_LIMIT = 90


class DatabaseServer:
    """A server with one database and one user. `uri` has the password in percent-encoding."""

    def __init__(self, folder: Path, kind: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.kind = kind
        self.folder = folder / kind
        self._process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def is_installed(kind: str) -> bool:
        return bool(
            postgres_program("initdb") if kind == "postgresql" else shutil.which("mariadbd", path=PATH)
        )

    def uri(self, password: str = PASSWORD) -> str:
        driver = "postgresql+psycopg2" if self.kind == "postgresql" else "mysql+pymysql"
        return f"{driver}://{USER}:{quote(password, safe='')}@127.0.0.1:{self.port}/mlf"

    def start(self) -> None:
        """Creates the data folder on the first start. Returns once the server answers."""
        first = not self.folder.exists()
        if first:
            self.folder.mkdir(parents=True)
            if os.getuid() == 0:
                shutil.chown(self.folder, *_unprivileged())
        (self._start_postgres if self.kind == "postgresql" else self._start_mariadb)(first)

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGINT if self.kind == "postgresql" else signal.SIGTERM)
            self._process.wait(60)
            self._process = None

    def _start_postgres(self, first: bool) -> None:
        data = str(self.folder / "data")
        if first:
            _run(
                [
                    postgres_program("initdb"),
                    "-D",
                    data,
                    "-U",
                    "owner",
                    "-A",
                    "trust",
                    "--no-sync",
                    "-E",
                    "UTF8",
                ]
            )
            rules = "local all owner trust\nhost all mlf 127.0.0.1/32 scram-sha-256\n"
            _run(["sh", "-c", 'printf "%s" "$1" > "$2"', "sh", rules, f"{data}/pg_hba.conf"])
        argv = [postgres_program("postgres"), "-D", data, "-p", str(self.port), "-k", data, "-F"]
        self._process = _spawn([*argv, "-c", "listen_addresses=127.0.0.1"], self.folder)
        psql = [
            postgres_program("psql"),
            "-h",
            data,
            "-p",
            str(self.port),
            "-U",
            "owner",
            "-d",
            "postgres",
            "-c",
        ]
        _wait_for([*psql, "SELECT 1"], self._process, self.folder)
        if first:
            _run([*psql, f"CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'"])
            _run([*psql, f"CREATE DATABASE mlf OWNER {USER}"])

    def _start_mariadb(self, first: bool) -> None:
        data, sock = str(self.folder / "data"), str(self.folder / "s")
        assert len(sock) < SOCKET_FOLDER_LIMIT, sock
        common = ["--no-defaults", f"--datadir={data}"]
        if first:
            _run(
                ["mariadb-install-db", *common, "--auth-root-authentication-method=normal", "--skip-test-db"]
            )
        argv = ["mariadbd", *common, f"--port={self.port}", "--bind-address=127.0.0.1", f"--socket={sock}"]
        self._process = _spawn([*argv, f"--pid-file={self.folder / 'pid'}"], self.folder)
        client = ["mariadb", "--no-defaults", f"--socket={sock}", "-u", "root", "-e"]
        _wait_for([*client, "SELECT 1"], self._process, self.folder)
        if first:
            _run([*client, "CREATE DATABASE mlf CHARACTER SET utf8mb4"])
            _run(
                [
                    *client,
                    f"CREATE USER {USER}@'%' IDENTIFIED BY '{PASSWORD}'; GRANT ALL ON mlf.* TO {USER}@'%'",
                ]
            )


PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin"


def postgres_program(name: str) -> str:
    """Path of a program of the newest PostgreSQL, which Debian keeps off the PATH; empty if there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(found[-1]) if found else shutil.which(name) or ""


def _unprivileged() -> tuple[str, str]:
    """Database servers refuse to run as root."""
    return ("nobody", "nogroup")


def _demoted(argv: list[str]) -> list[str]:
    if os.getuid() != 0:
        return argv
    user, group = _unprivileged()
    return ["setpriv", f"--reuid={pwd.getpwnam(user).pw_uid}", f"--regid={group}", "--clear-groups", *argv]


def _environment() -> dict[str, str]:
    return {"PATH": PATH, "LC_ALL": "C.UTF-8", "TMPDIR": "/tmp"}


def _run(argv: list[str]) -> None:
    ended = subprocess.run(
        _demoted(argv), env=_environment(), cwd="/", capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, f"{argv[0]}: {ended.stdout[-1000:]} {ended.stderr[-1000:]}"


def _spawn(argv: list[str], folder: Path) -> subprocess.Popen[bytes]:
    with (folder.parent / f"{folder.name}.log").open("ab") as log:
        return subprocess.Popen(
            _demoted(argv), env=_environment(), cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )


def _wait_for(argv: list[str], process: subprocess.Popen[bytes], folder: Path, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while subprocess.run(
        _demoted(argv), env=_environment(), cwd="/", capture_output=True, check=False
    ).returncode:
        log = (folder.parent / f"{folder.name}.log").read_text()[-2000:]
        assert process.poll() is None, log
        assert time.monotonic() < deadline, log
        time.sleep(0.2)
