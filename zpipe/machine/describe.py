"""Describes the machine and its software without importing torch; a subprocess runs DeepSpeed's report."""

import os
import platform
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from humanize import naturalsize

from zpipe.machine.cgroup import PROC, lines_of
from zpipe.machine.hardware import detect
from zpipe.machine.host_memory import machine_memory
from zpipe.redact import redact_environment

OPERATOR_SECONDS = 180.0
_VARIABLES = (
    *(
        "CUDA",
        "NCCL",
        "GLOO",
        "TORCH",
        "PYTORCH",
        "DS_",
        "HF_",
        "TRANSFORMERS_",
        "MLFLOW_",
        "HYDRA_",
        "ZPIPE_",
    ),
    *("OMP_", "MKL_", "MASTER_", "RANK", "LOCAL_RANK", "WORLD_SIZE", "SLURM_", "LD_", "PYTHON", "PATH"),
    *("MAX_JOBS", "TMPDIR"),
)
"""Prefixes of the environment variables that affect a run."""


def versions() -> str:
    """Every installed package, one per line."""
    found = {(dist.metadata["Name"] or "?").lower(): dist.version for dist in metadata.distributions()}
    lines = [f"{name}=={version}" for name, version in sorted(found.items())]
    return "\n".join([f"# {platform.python_implementation()} {sys.version}", *lines, ""])


def hardware(folder: Path) -> str:
    """System, processor, memory, GPUs, and the disk of the run folder."""
    found = detect()
    disk = shutil.disk_usage(folder)
    lines = [
        f"system    {platform.platform()}",
        f"processor {_processor()}, {found.cores} of {os.cpu_count()} cores usable",
        f"memory    {_size(found.memory)} of {_size(machine_memory())} usable",
        f"disk      {_size(disk.free)} of {_size(disk.total)} free at the run folder",
        f"shm       {_free_shm()}",
        *(f"GPU {n}     {gpu.name}, {_size(gpu.memory)}" for n, gpu in enumerate(found.gpus)),
    ]
    return "\n".join([*lines, "" if found.gpus else "no GPU that PyTorch can use", _nvidia_smi()])


def operators(device: str) -> str:
    """DeepSpeed's report of its operators for this device.

    It runs in the environment of this process: a plan from elsewhere must not choose what is executed.
    """
    argv = [sys.executable, "-P", "-m", "deepspeed.env_report"]
    chosen = {"DS_ACCELERATOR": "cpu"} if device == "cpu" else {}
    return _output_of(argv, OPERATOR_SECONDS, {**os.environ, **chosen})


def environment() -> str:
    """The environment variables of this process that affect a run, without secrets."""
    chosen = {name: value for name, value in os.environ.items() if name.startswith(_VARIABLES)}
    return "".join(f"{name}={value}\n" for name, value in sorted(redact_environment(chosen).items()))


def _output_of(argv: list[str], seconds: float, env: dict[str, str] | None = None) -> str:
    try:
        done = subprocess.run(
            argv,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds,
            check=False,
        )
    except FileNotFoundError:
        return f"{argv[0]} is not installed\n"
    except subprocess.TimeoutExpired as late:
        output = (late.stdout or b"").decode(errors="replace")
        return f"{output}\n{' '.join(argv)} did not end within {seconds:g} s\n"
    exit_code = "" if done.returncode == 0 else f"\n(exit code {done.returncode})\n"
    return done.stdout.decode(errors="replace") + exit_code


def _nvidia_smi() -> str:
    return _output_of(["nvidia-smi"], 20.0) if shutil.which("nvidia-smi") else "nvidia-smi is not installed\n"


def _processor() -> str:
    lines = lines_of(PROC / "cpuinfo")
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or "unknown")


def _free_shm() -> str:
    shm = Path("/dev/shm")  # noqa: S108 - only its free space is read
    return f"{_size(shutil.disk_usage(shm).free)} free" if shm.is_dir() else "no /dev/shm"


def _size(count: int) -> str:
    return naturalsize(count, binary=True)
