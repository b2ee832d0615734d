"""What each launcher renders, as files for review: command, environment, files. `make golden` renews them."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import needs
from tests.support.golden import assert_golden
from tests.support.planning import CPU, H200, gpus, plan_of
from zpipe.launchers import MODULES
from zpipe.machine.hardware import Hardware
from zpipe.plans.plan import Plan
from zpipe.schema.slurm import Slurm

OF_THIS_MACHINE = ("PATH", "PYTHONPATH")
TWO_GPUS = gpus(H200, H200)
TWO_NODES = ("launcher.nodes=2", "launcher.master_addr=10.0.0.1", "launcher.node_rank=1")
EVERY_SETTING = (
    "launcher.slurm.partition=a100",
    "launcher.slurm.account=lab-7",
    "launcher.slurm.qos=high",
    "launcher.slurm.constraint='ib&nvme'",
    "launcher.slurm.time=1-12:00:00",
    "launcher.slurm.gpus=8xH100",
    "launcher.slurm.cpus_per_task=64",
    "launcher.slurm.mem=480G",
    "launcher.slurm.signal_s=300",
    "launcher.slurm.requeue=false",
    "launcher.slurm.mail_type='END,FAIL'",
    "launcher.slurm.mail_user=ann@example.org",
    "launcher.slurm.setup=['module load cuda/12.4','ulimit -l unlimited']",
    "launcher.slurm.extra=['--exclude=n[3-5]','--exclusive']",
)
KUBEFLOW = (
    "launcher.kubeflow.image=registry.example/zpipe:1",
    "launcher.kubeflow.volumes=['runs:/shared']",
    "tracking=none",
)
CASES: dict[str, tuple[list[str], Hardware]] = {
    "torchrun": (["launcher=torchrun"], CPU),
    "torchrun_two_gpus": (["launcher=torchrun", "launcher.env.NOTE='two words'"], TWO_GPUS),
    "torchrun_two_nodes": (["launcher=torchrun", *TWO_NODES], TWO_GPUS),
    "torchrun_c10d": (["launcher=torchrun", *TWO_NODES, "launcher.rdzv_backend=c10d"], TWO_GPUS),
    "deepspeed": (["launcher=deepspeed"], CPU),
    "deepspeed_two_gpus": (["launcher=deepspeed"], TWO_GPUS),
    "accelerate": (["launcher=accelerate"], CPU),
    "accelerate_two_gpus": (["launcher=accelerate"], TWO_GPUS),
    "slurm": (["launcher=slurm"], CPU),
    "slurm_two_nodes": (["launcher=slurm", "launcher.nodes=2", "launcher.slurm.gpus=8xH100"], CPU),
    "slurm_every_setting": (["launcher=slurm", "launcher.nodes=4", *EVERY_SETTING], CPU),
    "kubeflow": (["launcher=kubeflow", *KUBEFLOW], CPU),
    "inprocess": (["launcher=inprocess"], CPU),
    "debug": (["launcher=debug"], CPU),
}


def plan_for(case: str) -> Plan:
    overrides, hardware = CASES[case]
    return plan_of(*overrides, hardware=hardware)


@pytest.mark.parametrize("case", CASES)
def test_what_a_launcher_renders_equals_the_golden_file(case: str) -> None:
    launch = plan_for(case).launch
    environment = {name: "…" if name in OF_THIS_MACHINE else value for name, value in launch.env.items()}
    parts = [
        f"$ zpipe plan {shlex.join(CASES[case][0])}",
        "command\n" + "\n".join(f"  {each}" for each in launch.argv),
        "environment\n" + "\n".join(f"  {name}={value}" for name, value in sorted(environment.items())),
        *(f"file launch/{name}\n{text}" for name, text in launch.files.items()),
    ]
    assert_golden(f"launchers/{case}.txt", "\n\n".join(parts).replace(sys.executable, "PYTHON") + "\n")


def test_every_launcher_has_a_golden_file() -> None:
    assert {plan_for(case).launch.launcher for case in CASES} == set(MODULES)


def test_the_golden_script_has_every_setting_of_slurm() -> None:
    given = {setting.partition("=")[0].removeprefix("launcher.slurm.") for setting in EVERY_SETTING}
    assert given == set(Slurm.model_fields)


@pytest.mark.parametrize("case", [case for case in CASES if case.startswith("slurm")])
def test_shellcheck_finds_nothing_in_the_script_of_a_job(case: str, tmp_path: Path) -> None:
    needs("shellcheck", shutil.which("shellcheck") is not None)
    script = tmp_path / "job.sh"
    script.write_text(plan_for(case).launch.files["job.sh"])
    done = subprocess.run(["shellcheck", str(script)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
