"""Two hosts that ssh reaches: each with a network, a host name and processes of its own, on one machine."""

import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.support.hosts import NOTHING, Host, can_make_hosts, two_hosts
from tests.support.process import environment, kill_tree
from zpipe.supervise.hosts import AGENT

_SERVER = """\
Port 22
ListenAddress {address}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
PermitRootLogin prohibit-password
"""
_CLIENT = """\
Host host-*
    User root
    IdentityFile {folder}/user_key
    IdentitiesOnly yes
    UserKnownHostsFile {folder}/known_hosts
    GlobalKnownHostsFile none
    StrictHostKeyChecking yes
"""
_START_SECONDS = 10.0


def can_ssh() -> bool:
    """It needs root, network namespaces, openssh-server and pdsh, which CI has."""
    return can_make_hosts() and all(map(shutil.which, ("sshd", "ssh", "ssh-keygen", "pdsh")))


@dataclass
class SshHost:
    """A host with an ssh server. What it has mounted is seen by the processes that ssh starts."""

    host: Host
    folder: Path
    """Keys and configuration, the same for all hosts."""
    server: "subprocess.Popen[bytes] | None" = None

    @property
    def name(self) -> str:
        return self.host.name

    def boot(self, *mounts: str) -> None:
        """Starts the ssh server, after these commands of the shell have changed what the host sees."""
        Path("/run/sshd").mkdir(exist_ok=True)
        sshd = [str(shutil.which("sshd")), "-D", "-f", f"{self.folder}/{self.name}.conf"]
        quiet = subprocess.DEVNULL
        self.server = subprocess.Popen(self._inside(sshd, *mounts), stdin=quiet, stdout=quiet, stderr=quiet)
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            knock = ["bash", "-c", f"exec 3<>/dev/tcp/{self.host.address}/22"]
            if subprocess.run(self._inside(knock), stderr=quiet, check=False).returncode == 0:
                return
            time.sleep(0.1)
        raise AssertionError(f"{self.name} has no ssh server")

    def lose_power(self) -> None:
        """Kills every process of the host."""
        if self.server is not None:
            kill_tree(self.server.pid)
            self.server.wait()

    def start(self, cwd: Path, *overrides: str, env: Mapping[str, str] = NOTHING) -> "Zpipe":
        return Zpipe(self._inside([sys.executable, "-m", "zpipe", *overrides]), cwd, env)

    def processes(self) -> list[psutil.Process]:
        """What of a run lives on the host."""
        below = psutil.Process(self.server.pid).children(recursive=True) if self.server is not None else []
        return [each for each in below if _is_of_a_run(each)]

    def worker(self) -> psutil.Process:
        """The only rank on the host."""
        return next(each for each in self.processes() if "zpipe.train" in each.cmdline())

    def agent(self) -> psutil.Process:
        """zpipe's own process on the host; the command of the login shell around it names it too."""
        return next(each for each in self.processes() if _command(each)[1:3] == ["-m", AGENT])

    def other_launch(self) -> psutil.Process:
        """A process that looks like DeepSpeed's watcher of another run."""
        name = f"{sys.executable} -u -m deepspeed.launcher.launch"
        program = shlex.quote(f"exec -a {shlex.quote(name)} sleep 600")
        command = f"setsid bash -c {program} </dev/null >/dev/null 2>&1 &"
        subprocess.run(self._inside(["ssh", "-n", self.name, command]), check=True)
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            for each in self.processes():
                if _command(each) == [name, "600"]:
                    return each
        raise AssertionError("the other launch did not start")

    def _inside(self, argv: list[str], *mounts: str) -> list[str]:
        """A command with processes of its own, of which a shell is the first."""
        names = f"mount --bind {self.folder}/hosts /etc/hosts"
        client = f"mount --bind {self.folder}/client.conf /etc/ssh/ssh_config"
        script = " && ".join([f"hostname {self.name}", names, client, *mounts, '"$@"'])
        own = ["unshare", "--uts", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        return [
            "ip",
            "netns",
            "exec",
            self.host.namespace,
            *own,
            "bash",
            "-c",
            f"{script}; exit $?",
            "-",
            *argv,
        ]


class Zpipe:
    """zpipe on one of the hosts; signals go to zpipe itself. It is a `Started` (tests/support/process.py)."""

    def __init__(self, argv: list[str], cwd: Path, env: Mapping[str, str]) -> None:
        self._shell = subprocess.Popen(
            argv,
            cwd=cwd,
            env=environment(env),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def returncode(self) -> int | None:
        return self._shell.returncode

    def poll(self) -> int | None:
        return self._shell.poll()

    def communicate(self) -> tuple[str, str]:
        return self._shell.communicate()

    def kill(self) -> None:
        """And everything that it has started on its host."""
        kill_tree(self._shell.pid)

    def send_signal(self, number: signal.Signals) -> None:
        below = psutil.Process(self._shell.pid).children(recursive=True)
        next(each for each in below if _command(each)[1:3] == ["-m", "zpipe"]).send_signal(number)


@contextmanager
def ssh_hosts(folder: Path) -> Iterator[tuple[SshHost, SshHost]]:
    """Two hosts that can log in to each other, with keys and known hosts of their own."""
    for name in ("host_key", "user_key"):
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(argv, check=True)
    (folder / "client.conf").write_text(_CLIENT.format(folder=folder))
    with two_hosts() as pair:
        lines = [f"{host.address} {host.name}" for host in pair]
        (folder / "hosts").write_text("\n".join(["127.0.0.1 localhost", *lines]) + "\n")
        public = " ".join((folder / "host_key.pub").read_text().split()[:2])
        (folder / "known_hosts").write_text(
            "".join(f"{host.name},{host.address} {public}\n" for host in pair)
        )
        for host in pair:
            configuration = _SERVER.format(address=host.address, folder=folder)
            (folder / f"{host.name}.conf").write_text(configuration)
        first, second = (SshHost(host, folder) for host in pair)
        try:
            first.boot()
            second.boot()
            yield first, second
        finally:
            first.lose_power()
            second.lose_power()


def _is_of_a_run(process: psutil.Process) -> bool:
    return any("zpipe." in word or "deepspeed." in word for word in _command(process))


def _command(process: psutil.Process) -> list[str]:
    with suppress(psutil.Error):
        return process.cmdline()
    return []
