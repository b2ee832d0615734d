"""Peaks of memory in one process belong to one run."""

import subprocess
import sys

import pytest

TWO_RUNS = """
from zpipe.train.metrics import read_memory, reset_peaks
block = bytearray(300 << 20)
block[::4096] = b"x" * len(block[::4096])
before = read_memory()["memory/host_peak_gib"]
del block
reset_peaks()
print(before - read_memory()["memory/host_peak_gib"] > 0.1)
"""


CHILD_OF_A_LARGE_PROCESS = """
import subprocess, sys
block = b"x" * (600 << 20)
code = "from zpipe.train.metrics import read_memory; print(read_memory()['memory/host_peak_gib'] < 0.58)"
print(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout, end="")
"""


@pytest.mark.parametrize("code", [TWO_RUNS, CHILD_OF_A_LARGE_PROCESS])
def test_peaks_are_those_of_this_run(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
