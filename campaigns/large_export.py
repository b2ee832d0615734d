"""Exports a model of 200 MB in processes of their own: host memory, and what is left of stopped ones."""

import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.support import preloaded
from tests.support.exports import LARGE, predicted_peak
from tests.support.peaks import peak_of
from tests.support.process import environment, finish
from zpipe.exits import Exit

_MIB = 2**20
_SMALL_FILES = 10 * _MIB
"""Less than one file of the export."""


def results(base: Path, text_file: Path) -> Iterator[tuple[str, str]]:
    """A line for each check."""
    folder = base / "large"
    folder.mkdir()
    large = Large(folder, text_file)
    problem = large.train()
    if problem:
        yield "large model", problem
        return
    for dtype in ("fp32", "bf16"):
        yield f"large model, {dtype}", large.memory(dtype)
    stop = large.left(lambda process: process.send_signal(signal.SIGINT), None)
    yield "large model, Ctrl-C while writing", stop or "nothing is left"
    yield "large model, no room while writing", large.left(None, _SMALL_FILES) or "nothing is left"


class Large:
    """The export of a larger model, in processes of its own."""

    def __init__(self, base: Path, text_file: Path) -> None:
        self._base, self._run, self._text_file = base, base / "run", text_file

    def train(self) -> str:
        """The problem, or nothing."""
        fixed = (preloaded.INPROCESS, f"data.path={self._text_file}", f"hydra.run.dir={self._run}")
        done = finish(preloaded.start(self._base, *LARGE, *fixed), self._run)
        return "" if done.exit_code == 0 else done.explain()

    def memory(self, dtype: str) -> str:
        """The peak of an export, with and without what the libraries take."""
        output = self._base / f"peak-{dtype}"
        peak = peak_of(*self._arguments(output, dtype))
        size = sum(file.stat().st_size for file in output.glob("*.safetensors"))
        if not size:
            return "nothing was exported"
        libraries, predicted = peak.libraries // _MIB, predicted_peak(peak.printed) // _MIB
        ratio = f"{(peak.total - peak.libraries) / size:.2f} times the weights beside the libraries"
        figures = f"peak {peak.total // _MIB} MiB, predicted {predicted}, libraries {libraries}"
        return f"{figures}, weights {size // _MIB}: {ratio}"

    def left(self, stop: Callable[[subprocess.Popen[str]], None] | None, limit: int | None) -> str:
        """What is left of an export that is stopped, or that may not write files larger than the limit."""
        output = self._base / "broken-off"
        process = subprocess.Popen(
            [sys.executable, "-m", "zpipe", *self._arguments(output, "fp32")],
            env=environment(),
            preexec_fn=None if limit is None else _limiting(limit),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        while stop is not None and process.poll() is None:
            if any(self._base.glob(".exporting-*/*.safetensors")):
                stop(process)
                break
            time.sleep(0.005)
        _, errors = process.communicate()
        wanted = Exit.INTERRUPTED if limit is None else Exit.DISK_FULL
        if process.returncode != wanted:
            return f"exit {process.returncode}: {errors[-300:]}"
        return "something is left" if output.exists() or any(self._base.glob(".exporting-*")) else ""

    def _arguments(self, output: Path, dtype: str) -> tuple[str, ...]:
        return (
            "export",
            str(self._run),
            "--output",
            str(output),
            "--dtype",
            dtype,
            "--max-shard-size",
            "20MB",
        )


def _limiting(limit: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
