"""Builds and loads DeepSpeed's operators, and removes stale lock files of killed builds.

torch builds an extension under a lock file that does not name its owner. If a build is killed, the file
remains and every later run waits for it forever. zpipe therefore also holds a kernel lock during a build,
which the kernel releases when the process ends. If zpipe holds that lock and no compiler is running, torch's
lock file is stale.
"""

import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zpipe.machine.libaio import use_libaio
from zpipe.runfolder.event_file import Reporter
from zpipe.runfolder.events import OperatorBuild
from zpipe.train.operator_sources import restore_build, shorten_build

EXPECTED_SECONDS = {
    "async_io": 70,
    "cpu_adam": 60,
    "cpu_adagrad": 60,
    "cpu_lion": 60,
    "fused_adam": 60,
    "fused_lion": 60,
    "fused_lamb": 60,
    "pin_memory": 45,
}
"""Rough build times on two cores, shown to the user during a build."""

LOADED_FIRST = {"async_io": ("pin_memory",)}
"""Operators that DeepSpeed's builders load first."""

REBUILD_SECONDS = 3.0
"""Loading a built operator takes less. If it takes longer, the operator is being rebuilt."""

SETTLED_SECONDS = 15.0
"""A build folder that has not changed for this long and has no process is not being built."""

POLL_SECONDS = 1.0
SHOWN_LINES = 15


class OperatorBuildError(RuntimeError):
    """An operator could not be compiled or loaded."""


def ensure_operators(names: Sequence[str], reporter: Reporter) -> None:
    """Builds the operators that are missing and loads all; raises OperatorBuildError."""
    if not names:
        return
    prefer_own_ninja()
    if "async_io" in names:
        use_libaio(os.environ)
    from deepspeed.ops.op_builder.all_ops import ALL_OPS

    for name in _load_order(names):
        builder = ALL_OPS.get(name)
        if builder is None:
            raise OperatorBuildError(f"DeepSpeed has no operator {name} for this device")
        _ensure(name, builder, reporter)


def disable_shm_comm() -> None:
    """Uses only gloo for the collectives of a CPU run.

    DeepSpeed would build its shared-memory collectives even for one rank, which takes a minute in the first
    run and needs a C++ compiler (deepspeed/comm/torch.py, build_shm_op).
    """
    import deepspeed.ops

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def _load_order(names: Sequence[str]) -> list[str]:
    ordered = [each for name in names for each in (*LOADED_FIRST.get(name, ()), name)]
    return list(dict.fromkeys(ordered))


def prefer_own_ninja() -> None:
    """Puts this environment's ninja first on the PATH.

    ninja rebuilds everything if another version of it wrote the build log. Without this, a run from a shell
    with another PATH would rebuild all operators, and so would the next run with the usual PATH.
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
        with _reported(name, wait, reporter):
            try:
                _load(builder, folder, reporter)
            except Exception as error:
                raise OperatorBuildError(f"{name} could not be built: {_last_lines(error)}") from error


def _load(builder: Any, folder: Path, reporter: Reporter) -> None:
    if shorten_build(builder, folder):
        try:
            builder.load(verbose=False)
            return
        except Exception as error:
            reporter.notice(f"{builder.name} is built as DeepSpeed does it, because: {_last_lines(error)}")
            restore_build(builder)
    builder.load(verbose=False)


@contextmanager
def _reported(name: str, wait: float, reporter: Reporter) -> Iterator[None]:
    """Reports the build of an operator if it takes longer than `wait` seconds."""
    expected = EXPECTED_SECONDS.get(name, 60)
    started = time.monotonic()
    building = OperatorBuild(name=name, state="building", seconds=expected)
    timer = threading.Timer(wait, lambda: reporter.report(building))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
    seconds = time.monotonic() - started
    if seconds > wait:
        timer.join()
        reporter.report(OperatorBuild(name=name, state="built", seconds=round(seconds, 1)))


def build_folder(name: str) -> Path:
    """The folder in which torch builds the extension; created if it does not exist."""
    from torch.utils.cpp_extension import _get_build_directory

    return Path(_get_build_directory(name, False))


def clear_stale_lock(name: str, folder: Path, reporter: Reporter) -> None:
    """Removes torch's lock file if no build is running; waits while one is running or just ended.

    Call this with the kernel lock held. Other programs (plain DeepSpeed) build without the kernel lock. Their
    builds are detected by their processes and by recent changes in the folder.
    """
    lock = folder / "lock"
    while lock.exists():
        idle = time.time() - _last_change(folder)
        if idle >= SETTLED_SECONDS and not _builders(folder):
            lock.unlink(missing_ok=True)
            reporter.report(OperatorBuild(name=name, state="stale_lock_cleared", seconds=round(idle)))
            reporter.notice(
                f"removed {lock}, a stale lock file of a killed build of {name} that would block this run"
            )
            return
        time.sleep(POLL_SECONDS)


def _last_change(folder: Path) -> float:
    """Unix time of the last change of the folder or of a file in it, except zpipe's own lock."""
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
    """Pids of processes that run in the folder or have it in their arguments: ninja and its compilers."""
    import psutil

    found = []
    for process in psutil.process_iter(["pid", "cwd", "cmdline"]):
        command = " ".join(process.info["cmdline"] or ())
        if process.info["cwd"] == str(folder) or str(folder) in command:
            found.append(process.info["pid"])
    return found


def _last_lines(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return "\n".join(lines[-SHOWN_LINES:])
