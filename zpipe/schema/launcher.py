"""The launcher: how the worker processes are started."""

from typing import Annotated, Literal

from pydantic import Field

from zpipe.schema.base import Count, Group, Number, Texts
from zpipe.schema.batch import Positive
from zpipe.schema.kubeflow import Kubeflow
from zpipe.schema.slurm import Slurm

NotNegative = Annotated[Count, Field(ge=0)]
Port = Annotated[Count, Field(ge=1, le=65535)]


class Launcher(Group):
    """How the worker processes are started."""

    type: str = "torchrun"
    """torchrun, deepspeed, accelerate, slurm, kubeflow: workers under that launcher; inprocess: the current
    process; debug: one worker without an agent. Installed packages can add others."""
    nproc_per_node: Positive | None = None
    """Worker processes; null means one per visible GPU, or 1 without a GPU."""
    nodes: Positive = 1
    """Machines; on each of them zpipe is started with its own `node_rank`. They share the run folder."""
    node_rank: NotNegative = 0
    """The number of this machine, from 0. Machine 0 supervises and records the run."""
    master_addr: str | None = None
    """Host name or address of machine 0, as the others reach it; needed for several machines. With a
    hostfile, null means its first host."""
    master_port: Port = 29500
    """TCP port on which machine 0 listens for the others."""
    rdzv_backend: Literal["static", "c10d"] = "static"
    """How torchrun's agents on several machines meet. static: in the order of `node_rank`, without pickles;
    c10d: in torch's own rendezvous, whose state is a pickle that anybody who reaches the port can replace."""
    hostfile: str | None = None
    """deepspeed: file with a line `HOST slots=NUMBER` for each machine; one zpipe reaches them over ssh."""
    include: str | None = None
    """deepspeed: hosts and slots of the hostfile to use, as `host-a@host-b:0,2`; null means all."""
    exclude: str | None = None
    """deepspeed: hosts and slots of the hostfile to leave out, written as in `include`."""
    multinode_launcher: str = "pdsh"
    """deepspeed: what DeepSpeed's runner reaches the hosts of the hostfile with (its `--launcher`): pdsh."""
    ssh_port: Port | None = None
    """deepspeed: port of the ssh servers of the hosts; null means what the configuration of ssh says."""
    max_restarts: NotNegative = 0
    """How often a run that failed, hung or lost a rank is started again, from its newest checkpoint."""
    node_timeout_s: Annotated[Number, Field(ge=10)] = 60.0
    """Seconds without a sign of life after which a machine is given up, and gives the run up itself."""
    wait: bool = True
    """slurm, kubeflow: wait for the end of the job, and show its state; false: submit it only."""
    array_parallelism: Positive | None = None
    """slurm: how many points of a sweep run at the same time; null is no limit."""
    slurm: Slurm = Field(default_factory=Slurm)
    kubeflow: Kubeflow = Field(default_factory=Kubeflow)
    device: Literal["auto", "cuda", "cpu"] = "auto"
    """auto: CUDA if a GPU and a CUDA build of PyTorch are available, otherwise the CPU."""
    env: Texts = {}
    """Additional environment variables of the workers."""
    hang_timeout_s: Annotated[Number, Field(gt=0)] | None = 1800.0
    """Seconds without a heartbeat during training after which the run ends as hung; null waits forever."""
