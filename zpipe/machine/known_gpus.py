"""Hardware by name, for a plan on a machine without those GPUs: `zpipe plan --gpus 8xH100`."""

import re

from zpipe.machine.hardware import Gpu, Hardware
from zpipe.problems import Problem, Refusal
from zpipe.schema.launcher import Launcher

MIB = 2**20
GIB = 2**30

_GPUS = {
    "B200": ("NVIDIA B200", 183_359, (10, 0)),
    "H200": ("NVIDIA H200", 143_771, (9, 0)),
    "H100": ("NVIDIA H100 80GB HBM3", 81_559, (9, 0)),
    "H100-NVL": ("NVIDIA H100 NVL", 95_830, (9, 0)),
    "A100-80GB": ("NVIDIA A100-SXM4-80GB", 81_920, (8, 0)),
    "A100-40GB": ("NVIDIA A100-SXM4-40GB", 40_960, (8, 0)),
    "L40S": ("NVIDIA L40S", 46_068, (8, 9)),
    "L4": ("NVIDIA L4", 23_034, (8, 9)),
    "A40": ("NVIDIA A40", 46_068, (8, 6)),
    "A10": ("NVIDIA A10", 23_028, (8, 6)),
    "A10G": ("NVIDIA A10G", 23_028, (8, 6)),
    "RTX-6000-ADA": ("NVIDIA RTX 6000 Ada Generation", 49_140, (8, 9)),
    "A6000": ("NVIDIA RTX A6000", 49_140, (8, 6)),
    "RTX-5090": ("NVIDIA GeForce RTX 5090", 32_607, (12, 0)),
    "RTX-4090": ("NVIDIA GeForce RTX 4090", 24_564, (8, 9)),
    "RTX-3090": ("NVIDIA GeForce RTX 3090", 24_576, (8, 6)),
    "V100-32GB": ("Tesla V100-SXM2-32GB", 32_768, (7, 0)),
    "V100-16GB": ("Tesla V100-SXM2-16GB", 16_384, (7, 0)),
    "T4": ("Tesla T4", 15_360, (7, 5)),
}
"""Name, memory in MiB as NVML reports it, within a percent, and compute capability (developer.nvidia.com)."""

_GROUP = re.compile(r"(?P<count>[1-9]\d{0,3})\s*[x*]\s*(?P<name>[\w-]+)", re.IGNORECASE)


def other_machine(gpus: str, host_memory_gib: float | None, cores: int | None, here: Hardware) -> Hardware:
    """A machine with these GPUs, like `8xH100`; host memory and cores that are not given are those of `here`.

    Raises Refusal with what is allowed.
    """
    match = _GROUP.fullmatch(gpus.strip())
    known = _GPUS.get(match["name"].upper()) if match else None
    problems = []
    if match is None or known is None:
        names = ", ".join(_GPUS)
        reason = "no such GPU" if match else "not a number of GPUs and a name"
        problems.append(Problem("--gpus", gpus, reason, f"COUNTxNAME with one of {names}", "--gpus 8xH100"))
    if host_memory_gib is not None and not 0 < host_memory_gib < 2**20:
        reason = "not an amount of memory"
        problems.append(Problem("--host-memory", host_memory_gib, reason, "GiB above 0", "--host-memory 512"))
    if cores is not None and cores < 1:
        problems.append(Problem("--cores", cores, "not a number of cores", "1 or more", "--cores 64"))
    if match is None or known is None or problems:
        raise Refusal(problems)
    name, memory, capability = known
    gpu = Gpu(name=name, memory=memory * MIB, compute_capability=capability)
    return Hardware(
        gpus=(gpu,) * int(match["count"]),
        cores=cores or here.cores,
        memory=round(host_memory_gib * GIB) if host_memory_gib is not None else here.memory,
    )


def target_hardware(settings: Launcher, here: Hardware) -> Hardware:
    """The nodes of a job in a queue, as far as the user describes them; otherwise this machine.

    A pod has the GPUs that it asks for, and no others. Raises Refusal.
    """
    match settings.type:
        case "slurm" if settings.slurm.gpus is not None:
            return _described("slurm", settings.slurm.gpus, None, settings.slurm.cpus_per_task, here)
        case "kubeflow":
            pod = settings.kubeflow
            memory = None if pod.memory is None else _gib(pod.memory)
            if pod.gpus is not None:
                return _described("kubeflow", pod.gpus, memory, pod.cpu, here)
            amount = here.memory if memory is None else round(memory * GIB)
            return Hardware(gpus=(), cores=pod.cpu or here.cores, memory=amount)
    return here


def _described(launcher: str, gpus: str, memory: float | None, cores: int | None, here: Hardware) -> Hardware:
    try:
        return other_machine(gpus, memory, cores, here)
    except Refusal as refusal:
        key = f"launcher.{launcher}.gpus"
        raise Refusal([each._replace(key=key, fix=f"{key}=8xH100") for each in refusal.problems]) from None


def _gib(amount: str) -> float:
    """An amount of Kubernetes, such as 480Gi, in GiB."""
    return int(amount[:-2]) * {"Mi": 1 / 1024, "Gi": 1.0, "Ti": 1024.0}[amount[-2:]]
