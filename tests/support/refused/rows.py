"""A row: a refused command line, the key that the message must name, and the machine of the plan."""

from dataclasses import replace

from tests.support.planning import A100, CPU, H200, V100, gpus
from zpipe.machine.hardware import Hardware

Row = tuple[list[str], str, Hardware]

ONE_GPU = gpus(H200)
OLD_GPU = gpus(V100)
ONE_A100 = gpus(A100)
FOUR_GPUS = gpus(H200, H200, H200, H200)
GPU_BY_UUID = replace(ONE_GPU, visible_gpus=("GPU-8f3a",))
SMALL_DISK = replace(CPU, free_disk=lambda _: 16 * 10**6)
MACHINES = {
    CPU: "no GPU",
    ONE_GPU: "one H200",
    OLD_GPU: "one V100",
    ONE_A100: "one A100",
    FOUR_GPUS: "four H200",
    GPU_BY_UUID: "one H200, CUDA_VISIBLE_DEVICES=GPU-8f3a",
    SMALL_DISK: "no GPU, 16 MB of disk",
}


def command(row: Row) -> str:
    """The row as typed in a shell, with the machine as a comment."""
    overrides, _, hardware = row
    return f"zpipe plan {' '.join(overrides)}   # {MACHINES[hardware]}"
