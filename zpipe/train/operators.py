"""DeepSpeed's operators: built once, one process at a time, and never waited for in vain.

torch builds an extension under a lock file that says nothing about its owner. When a build is
killed the file stays, and every later run waits for it for ever. So each build of ours holds a
kernel lock beside it, which dies with its process: whoever holds that lock, sees torch's lock file
and finds nobody compiling knows that the file is left over.
"""

import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zpipe.runfolder.event_file import Reporter
from zpipe.runfolder.events import OperatorBuild

EXPECTED_SECONDS = {
    "async_io": 390,
    "cpu_adam": 70,
    "cpu_adagrad": 60,
    "cpu_lion": 60,
    "fused_adam": 80,
    "fused_lion": 60,
    "fused_lamb": 60,
    "pin_memory": 40,
}
"""Rough, on two cores; only for the person who waits."""

LOADED_FIRST = {"async_io": ("pin_memory",)}
"""Operators that DeepSpeed's builders load on their way."""

REBUILD_SECONDS = 3.0
"""Loading a finished operator takes less; what takes longer is being built anew."""

SETTLED_SECONDS = 15.0
"""A build folder without change for so long, and without a process, has no builder."""

POLL_SECONDS = 1.0
SHOWN_LINES = 15


class OperatorBuildError(RuntimeError):
    """An operator could not be compiled or loaded."""


def ensure_operators(names: Sequence[str], reporter: Reporter) -> None:
    """Builds what is not built yet and loads all; raises OperatorBuildError."""
    if not names:
        return
    use_own_ninja()
    from deepspeed.ops.op_builder.all_ops import ALL_OPS

    for name in _in_order(names):
        builder = ALL_OPS.get(name)
        if builder is None:
            raise OperatorBuildError(f"this DeepSpeed has no operator {name} for this device")
        _ensure(name, builder, reporter)


def leave_out_shm_comm() -> None:
    """Lets gloo do the collectives of a CPU run alone.

    DeepSpeed would build its shared-memory collectives even for one rank, which costs a first run a minute
    and a C++ compiler (deepspeed/comm/torch.py, build_shm_op).
    """
    import deepspeed.ops

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def _in_order(names: Sequence[str]) -> list[str]:
    wanted = [each for name in names for each in (*LOADED_FIRST.get(name, ()), name)]
    return list(dict.fromkeys(wanted))


def use_own_ninja() -> None:
    """Puts this environment's ninja first on the PATH.

    ninja builds everything anew when another version of it wrote the log, so a run from a shell
    without the environment's PATH would cost minutes, and so would the next one with it.
    """
    own = str(Path(sys.executable).parent)
    path = os.environ.get("PATH", "")
    if Path(own, "ninja").exists() and path.split(os.pathsep)[0] != own:
        os.environ["PATH"] = os.pathsep.join([own, path])


def _ensure(name: str, builder: Any, reporter: Reporter) -> None:
    from filelock import FileLock

    folder = build_folder(name)
    with FileLock(folder / ".zpipe-lock"):
        clear_stale_lock(name, folder, reporter)
        wait = REBUILD_SECONDS if (folder / f"{name}.so").exists() else 0.0
        with _told(name, wait, reporter):
            try:
                builder.load(verbose=False)
            except Exception as error:
                raise OperatorBuildError(f"{name} could not be built: {_end_of(error)}") from error


@contextmanager
def _told(name: str, wait: float, reporter: Reporter) -> Iterator[None]:
    """Says that an operator is being built once `wait` seconds have passed, and that it was."""
    expected = EXPECTED_SECONDS.get(name, 60)
    began = time.monotonic()
    building = OperatorBuild(name=name, state="building", seconds=expected)
    timer = threading.Timer(wait, lambda: reporter.report(building))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
    seconds = time.monotonic() - began
    if seconds > wait:
        timer.join()
        reporter.report(OperatorBuild(name=name, state="built", seconds=round(seconds, 1)))


def build_folder(name: str) -> Path:
    """Where torch builds the extension; created if it is not there."""
    from torch.utils.cpp_extension import _get_build_directory

    return Path(_get_build_directory(name, False))


def clear_stale_lock(name: str, folder: Path, reporter: Reporter) -> None:
    """Removes torch's lock file if nobody builds; waits if somebody does, or did a moment ago.

    Call it with the kernel lock held. Another program (plain DeepSpeed) may build without it, and
    is then seen by its processes or by its files.
    """
    lock = folder / "lock"
    while lock.exists():
        idle = time.time() - _last_change(folder)
        if idle >= SETTLED_SECONDS and not _builders(folder):
            lock.unlink(missing_ok=True)
            reporter.report(OperatorBuild(name=name, state="stale_lock_cleared", seconds=round(idle)))
            reporter.notice(
                f"a build of {name} that was killed had left {lock}: removed, or this run would have hung"
            )
            return
        time.sleep(POLL_SECONDS)


def _last_change(folder: Path) -> float:
    """Unix time of the newest file that a build writes there."""
    times = [folder.stat().st_mtime]
    for file in folder.iterdir():
        if file.name.startswith(".zpipe"):
            continue
        try:
            times.append(file.stat().st_mtime)
        except FileNotFoundError:
            continue
    return max(times)


def _builders(folder: Path) -> list[int]:
    """Processes that work in the folder or name it: ninja and the compilers that it starts."""
    import psutil

    found = []
    for process in psutil.process_iter(["pid", "cwd", "cmdline"]):
        command = " ".join(process.info["cmdline"] or ())
        if process.info["cwd"] == str(folder) or str(folder) in command:
            found.append(process.info["pid"])
    return found


def _end_of(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return "\n".join(lines[-SHOWN_LINES:])
