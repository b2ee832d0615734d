"""Peaks of memory in one process belong to one run."""

import subprocess
import sys

CODE = """
from zpipe.train.metrics import read_memory, reset_peaks
block = bytearray(300 << 20)
block[::4096] = b"x" * len(block[::4096])
before = read_memory()["memory/host_peak_gib"]
del block
reset_peaks()
print(before - read_memory()["memory/host_peak_gib"] > 0.1)
"""


def test_a_run_does_not_report_the_peak_of_the_run_before_it() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
