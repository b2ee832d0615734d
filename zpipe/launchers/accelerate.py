"""`accelerate launch` with a configuration file of its own; it starts the ranks through torchrun's agent."""

import sys
from typing import Any

from zpipe.launchers.base import LOOPBACK, NO_FOREIGN_IMPORTS, Job, Launcher, Rendered
from zpipe.launchers.torchrun import OWN_RENDEZVOUS
from zpipe.yaml_text import yaml_text

CONFIG_NAME = "accelerate.yaml"


class Accelerate(Launcher):
    """One node. Its agent opens a port that the system chooses: accelerate has no rendezvous in a file."""

    def render(self, job: Job) -> Rendered:
        argv = [
            sys.executable,
            "-m",
            "accelerate.commands.launch",
            f"--config_file={job.run.launch / CONFIG_NAME}",
            f"--log_dir={job.attempt.logs}",
            "--tee=3",
            "--module",
            job.worker,
            str(job.run.path),
        ]
        environment = {**LOOPBACK, **NO_FOREIGN_IMPORTS, **OWN_RENDEZVOUS}
        return Rendered(argv, environment, {CONFIG_NAME: yaml_text(_config(job))})


def _config(job: Job) -> dict[str, Any]:
    """The batch, the precision and ZeRO's settings are in ds_config.json; here accelerate refuses them."""
    return {
        "compute_environment": "LOCAL_MACHINE",
        "distributed_type": "DEEPSPEED",
        "deepspeed_config": {"deepspeed_config_file": str(job.run.ds_config)},
        "num_machines": 1,
        "machine_rank": 0,
        "num_processes": job.nproc_per_node,
        "main_process_port": 0,  # a free one
        "use_cpu": job.device == "cpu",
    }


LAUNCHER = Accelerate
