"""Changes whether DeepSpeed reports fp16 support on the CPU. Tests put this folder on PYTHONPATH.

ZPIPE_FP16_ON_CPU is `yes` or `no`. It changes the report only: training in fp16 is real on every processor.
"""

import os
from types import ModuleType

from tests.support.on_import import change_on_import


def plant(module: ModuleType) -> None:
    is_supported = os.environ["ZPIPE_FP16_ON_CPU"] == "yes"
    module.CPU_Accelerator.is_fp16_supported = lambda self: is_supported


if "ZPIPE_FP16_ON_CPU" in os.environ:
    change_on_import("deepspeed.accelerator.cpu_accelerator", plant)
