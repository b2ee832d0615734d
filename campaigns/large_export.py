"""Exports a model of 200 MB in processes of their own: host memory, and what is left of stopped ones."""

import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.support import preloaded
from tests.support.process import SMALL, environment, finish
from zpipe.exits import Exit

LARGE = (
    *SMALL,
    "stage=2",
    "precision=bf16",
    "model.config.hidden_size=1024",
    "model.config.intermediate_size=2816",
    "model.config.num_hidden_layers=4",
    "model.config.num_attention_heads=8",
    "model.config.vocab_size=8192",
    "data.max_length=32",
    "train.max_steps=2",
    "checkpoint=default",
    "tracking.enabled=false",
)
_MIB = 2**20
_SMALL_FILES = 10 * _MIB
"""Less than one file of the export."""
_PRINT_PEAK = """
for line in open("/proc/self/status"):
    if line.startswith("VmHWM"):
        print("peak", int(line.split()[1]) * 1024)
"""


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
        peak = _peak(_EXPORT, *self._arguments(output, dtype))
        libraries, size = _peak(_LIBRARIES), sum(file.stat().st_size for file in output.glob("*.safetensors"))
        if not size:
            return "nothing was exported"
        figures = (
            f"peak {peak // _MIB} MiB, of it libraries {libraries // _MIB} MiB, weights {size // _MIB} MiB"
        )
        return f"{figures}: {(peak - libraries) / size:.2f} times the weights beside the libraries"

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


_EXPORT = "import sys; from zpipe.cli.main import main; main(sys.argv[1:])"
_LIBRARIES = "import torch, transformers, deepspeed, transformers.models.llama.modeling_llama"


def _peak(code: str, *arguments: str) -> int:
    """Bytes of host memory that a process with this code needed at most."""
    argv = [sys.executable, "-c", code + _PRINT_PEAK, *arguments]
    done = subprocess.run(argv, env=environment(), capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


def _limiting(limit: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
