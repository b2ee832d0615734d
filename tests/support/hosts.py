"""Two hosts on one machine: network namespaces with their own addresses and host names, joined by a cable."""

import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.support.process import environment

NOTHING: Mapping[str, str] = {}


@dataclass(frozen=True)
class Host:
    """One end of the cable."""

    name: str
    namespace: str
    device: str
    address: str

    def start(
        self,
        cwd: Path,
        *overrides: str,
        env: Mapping[str, str] = NOTHING,
        hides: Path | None = None,
        room: str = "50%",
        disk: Path | None = None,
    ) -> "subprocess.Popen[str]":
        """Starts zpipe on this host, to which `hides` looks empty, with `room`, and `disk` like its own."""
        hiding = f"mount -t tmpfs -o size={room} none '{hides}' && " if hides is not None else ""
        if disk is not None:
            hiding += f"mount --bind '{self.disk(disk)}' '{disk}' && "
        script = f'hostname {self.name} && {hiding}exec "$@"'
        argv = [
            "ip",
            "netns",
            "exec",
            self.namespace,
            "unshare",
            "--uts",
            "--mount",
            "bash",
            "-c",
            script,
            "-",
        ]
        return subprocess.Popen(
            [*argv, sys.executable, "-m", "zpipe", *overrides],
            cwd=cwd,
            env=environment(env),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def disk(self, disk: Path) -> Path:
        """What only this host sees at `disk`."""
        own = disk.with_name(f"{disk.name}-of-{self.name}")
        own.mkdir(exist_ok=True)
        return own

    def unplug(self) -> None:
        _ip("-n", self.namespace, "link", "set", self.device, "down")

    def plug_in(self) -> None:
        _ip("-n", self.namespace, "link", "set", self.device, "up")

    def lose_power(self) -> None:
        """Kills every process of this host."""
        done = subprocess.run(
            ["ip", "netns", "pids", self.namespace], capture_output=True, text=True, check=True
        )
        for pid in done.stdout.split():
            with suppress(psutil.NoSuchProcess):
                psutil.Process(int(pid)).kill()


def can_make_hosts() -> bool:
    """Namespaces need root and iproute2, which CI has."""
    return os.geteuid() == 0 and shutil.which("ip") is not None


@contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """Hosts with their own addresses and nothing else in common than the file system."""
    mark = uuid.uuid4().hex[:6]
    pair = tuple(
        Host(f"host-{name}", f"z{name}{mark}", f"v{name}{mark}", f"10.77.0.{number}")
        for number, name in ((1, "a"), (2, "b"))
    )
    one, other = pair
    try:
        for host in pair:
            _ip("netns", "add", host.namespace)
        _ip(
            "link",
            "add",
            one.device,
            "netns",
            one.namespace,
            "type",
            "veth",
            "peer",
            "name",
            other.device,
            "netns",
            other.namespace,
        )
        for host in pair:
            _ip("-n", host.namespace, "addr", "add", f"{host.address}/24", "dev", host.device)
            _ip("-n", host.namespace, "link", "set", "lo", "up")
            host.plug_in()
        yield one, other
    finally:
        for host in pair:
            host.lose_power()
            subprocess.run(["ip", "netns", "delete", host.namespace], check=False)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
