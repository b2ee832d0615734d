"""A Slurm cluster of two nodes on this machine, with its own configuration and ports."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CONFIGURATION = """\
ClusterName=zpipe
SlurmctldHost={host}
SlurmctldPort={port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=cred_expire=10
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdSpoolDir={folder}/spool-%n
StateSaveLocation={folder}/state
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,bf_interval=1
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=30
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
NodeName=n0 NodeHostname={host} NodeAddr=127.0.0.1 Port={port_0} CPUs=4 RealMemory=4000 State=UNKNOWN
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={port_1} CPUs=4 RealMemory=4000 State=UNKNOWN
PartitionName=debug Nodes=n0,n1 Default=YES MaxTime=INFINITE State=UP
"""


def can_run_slurm() -> bool:
    """It needs root, slurmd and munge, which CI has."""
    return os.geteuid() == 0 and all(map(shutil.which, ("slurmctld", "slurmd", "munged", "sbatch")))


@contextmanager
def cluster(folder: Path) -> Iterator[dict[str, str]]:
    """Yields the environment of commands that use the cluster."""
    _authenticate()
    (folder / "state").mkdir(parents=True)
    ports = dict(zip(("port", "port_0", "port_1"), _free_ports(3), strict=True))
    file = folder / "slurm.conf"
    file.write_text(CONFIGURATION.format(folder=folder, host=socket.gethostname(), **ports))
    environment = {"SLURM_CONF": str(file)}
    commands = (["slurmctld", "-D", "-c"], ["slurmd", "-D", "-N", "n0"], ["slurmd", "-D", "-N", "n1"])
    quiet = subprocess.DEVNULL
    started = [
        subprocess.Popen(argv, env={**os.environ, **environment}, stdout=quiet, stderr=quiet)
        for argv in commands
    ]
    try:
        _wait_for_nodes(environment)
        yield environment
    finally:
        slurm(environment, "scancel", "--full", "--user=root")
        for process in reversed(started):
            process.terminate()
            process.wait()


def slurm(environment: dict[str, str], *argv: str) -> str:
    """The output of a command of Slurm."""
    given = {**os.environ, **environment}
    return subprocess.run(argv, env=given, capture_output=True, text=True, check=False).stdout


def _authenticate() -> None:
    if subprocess.run(["munge", "-n"], capture_output=True, check=False).returncode == 0:
        return
    for folder in ("/run/munge", "/var/log/munge", "/var/lib/munge"):
        Path(folder).mkdir(exist_ok=True)
        shutil.chown(folder, "munge", "munge")
    subprocess.run(["su", "-s", "/bin/sh", "munge", "-c", "/usr/sbin/munged"], check=True)


def _wait_for_nodes(environment: dict[str, str]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if slurm(environment, "sinfo", "--noheader", "--format=%t %D").strip() == "idle 2":
            return
        time.sleep(0.5)
    raise AssertionError(slurm(environment, "sinfo", "--Node", "--long"))


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports
