"""Lets DeepSpeed train in real fp16 on the CPU. Tests put this folder on the workers' PYTHONPATH."""

from types import ModuleType

from tests.support.on_import import change_on_import


def say_that_fp16_is_there(module: ModuleType) -> None:
    module.CPU_Accelerator.is_fp16_supported = lambda self: True


change_on_import("deepspeed.accelerator.cpu_accelerator", say_that_fp16_is_there)
