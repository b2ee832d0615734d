"""The peak of host memory of zpipe in a process of its own."""

import subprocess
import sys
from typing import NamedTuple

from tests.support.process import environment

_CODE = """
import sys, torch, transformers, deepspeed, transformers.models.llama.modeling_llama
from zpipe.cli.main import main

def print_peak():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM"):
            print(int(line.split()[1]) * 1024)

print_peak()
code = main(sys.argv[1:])
print_peak()
sys.exit(code)
"""


class Peak(NamedTuple):
    """Bytes of host memory."""

    total: int
    libraries: int
    """Of the process before it did anything but import them."""
    printed: str


def peak_of(*arguments: str) -> Peak:
    """Of `zpipe ARGUMENTS`."""
    argv = [sys.executable, "-c", _CODE, *arguments]
    done = subprocess.run(argv, env=environment(), capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    numbers = [int(line) for line in lines if line.isdecimal()]
    return Peak(total=numbers[-1], libraries=numbers[0], printed=done.stdout)
