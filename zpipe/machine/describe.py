"""What the machine and its software are, without importing torch: another process runs DeepSpeed's report."""

import os
import platform
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from zpipe.machine.hardware import detect
from zpipe.redact import redact_environment

OPERATOR_SECONDS = 180.0
_GIB = 2**30
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
"""Beginnings of the names of variables that change how a run goes."""


def versions() -> str:
    """Every installed package, one a line."""
    found = {(dist.metadata["Name"] or "?").lower(): dist.version for dist in metadata.distributions()}
    lines = [f"{name}=={version}" for name, version in sorted(found.items())]
    return "\n".join([f"# {platform.python_implementation()} {sys.version}", *lines, ""])


def hardware(folder: Path) -> str:
    """System, processor, memory, GPUs, and the disk of the run folder."""
    found = detect()
    disk = shutil.disk_usage(folder)
    lines = [
        f"system    {platform.platform()}",
        f"processor {_processor()}, {found.cores} cores for this process",
        f"memory    {found.memory / _GIB:.1f} GiB",
        f"cgroup    {_cgroup_limit()}",
        f"disk      {disk.free / _GIB:.1f} of {disk.total / _GIB:.1f} GiB free at the run folder",
        f"shm       {_free_shm()}",
        *(f"GPU {n}     {gpu.name}, {gpu.memory / _GIB:.1f} GiB" for n, gpu in enumerate(found.gpus)),
    ]
    return "\n".join([*lines, "" if found.gpus else "no GPU that PyTorch would use", _nvidia_smi()])


def operators(environment: dict[str, str]) -> str:
    """DeepSpeed's own report of its operators, run as the workers are."""
    argv = [sys.executable, "-m", "deepspeed.env_report"]
    return _output_of(argv, OPERATOR_SECONDS, {**os.environ, **environment})


def environment() -> str:
    """The variables of this process that change how a run goes, without secrets."""
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
        said = (late.stdout or b"").decode(errors="replace")
        return f"{said}\n{' '.join(argv)} did not end within {seconds:g} s\n"
    ending = "" if done.returncode == 0 else f"\n(exit code {done.returncode})\n"
    return done.stdout.decode(errors="replace") + ending


def _nvidia_smi() -> str:
    return _output_of(["nvidia-smi"], 20.0) if shutil.which("nvidia-smi") else "nvidia-smi is not installed\n"


def _processor() -> str:
    lines = _read("/proc/cpuinfo").splitlines()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or "unknown")


def _cgroup_limit() -> str:
    text = (
        _read("/sys/fs/cgroup/memory.max").strip()
        or _read("/sys/fs/cgroup/memory/memory.limit_in_bytes").strip()
    )
    return f"{int(text) / _GIB:.1f} GiB at most" if text.isdigit() else "no memory limit found"


def _free_shm() -> str:
    shm = Path("/dev/shm")  # noqa: S108 - asked about, not written to
    return f"{shutil.disk_usage(shm).free / _GIB:.1f} GiB free" if shm.is_dir() else "no /dev/shm"


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
