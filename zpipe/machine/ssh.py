"""The command that runs a program on another host over ssh, without asking for anything."""

import shlex
import shutil
from collections.abc import Mapping, Sequence

from zpipe.problems import Problem

CONNECT_SECONDS = 10
OPTIONS = ("-oBatchMode=yes", f"-oConnectTimeout={CONNECT_SECONDS}")
"""No password and no question about the key of a host: who is not there to answer is refused at once."""


def ssh_command(
    host: str, argv: Sequence[str], environment: Mapping[str, str], port: int | None = None
) -> list[str]:
    """Runs `argv` on the host with these variables. Its shell changes none of the words."""
    assigned = [f"{name}={value}" for name, value in environment.items()]
    chosen = [] if port is None else ["-p", str(port)]
    return ["ssh", "-axT", *OPTIONS, *chosen, "--", host, shlex.join(["env", *assigned, *argv])]


def missing_tools() -> list[Problem]:
    """What this machine needs to start a run on the hosts of a hostfile, and does not have."""
    packages = {"ssh": "openssh-client", "pdsh": "pdsh"}
    return [
        Problem(
            name, "not found", "it reaches the hosts of launcher.hostfile", fix=f"apt-get install {package}"
        )
        for name, package in packages.items()
        if shutil.which(name) is None
    ]
