"""DeepSpeed's launcher: a runner that starts a watcher, which starts the ranks (deepspeed/launcher)."""

import sys

from zpipe.launchers.base import LOOPBACK, NO_FOREIGN_IMPORTS, Job, Launcher, Rendered

_NO_FILE = "/dev/null"
"""Otherwise the runner reads /job/hostfile, if there is one."""


class DeepSpeed(Launcher):
    """One node. The ranks meet in a file (zpipe/train/process_group.py), so that the port is not opened."""

    def render(self, job: Job) -> Rendered:
        return Rendered(
            [
                sys.executable,
                "-m",
                "deepspeed.launcher.runner",
                f"--hostfile={_NO_FILE}",
                _chosen_devices(job),
                "--no_local_rank",
                f"--enable_each_rank_log={job.attempt.logs}",
                "--module",
                job.worker,
                str(job.run.path),
            ],
            {**LOOPBACK, **NO_FOREIGN_IMPORTS},
        )


def _chosen_devices(job: Job) -> str:
    """With --num_gpus the runner would take the first GPUs of the machine, whatever zpipe itself sees."""
    if job.device == "cpu" or job.visible_gpus is None:
        return f"--num_gpus={job.nproc_per_node}"
    return f"--include=localhost:{','.join(job.visible_gpus[: job.nproc_per_node])}"


LAUNCHER = DeepSpeed
