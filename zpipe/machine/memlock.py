"""Lets NVMe offload run under a small limit of locked memory (`ulimit -l`, 8 MiB by default on Linux).

DeepSpeed locks every swap buffer in memory with mlock, and the process aborts where the limit does not allow
it (deepspeed/ops/csrc/pin_memory/page_alloc.cpp). Locking only keeps the kernel from paging a buffer out:
reads and writes are right without it. Workers of a limited user therefore preload a library whose mlock locks
what the limit allows, and does not fail for the rest.
"""

import hashlib
import os
import re
import resource
import shlex
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from zpipe.machine.cache import cache_folder
from zpipe.machine.libaio import c_compiler

SOURCE = """#include <sys/syscall.h>
#include <unistd.h>
int mlock(const void *address, unsigned long length) {
    syscall(SYS_mlock, address, length);
    return 0;
}
"""
CAP_IPC_LOCK = 14
"""The bit of the capability that ignores the limit (linux/capability.h)."""


class MemlockError(Exception):
    """The library could not be compiled."""


def raise_lock_limit() -> int | None:
    """The limit of locked memory in bytes, after raising it as far as possible; None if there is none."""
    if _has_capability(CAP_IPC_LOCK):
        return None
    _, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (hard, hard))
    return None if hard == resource.RLIM_INFINITY else hard


def library() -> Path:
    """Where the library is, or will be."""
    digest = hashlib.sha256(SOURCE.encode()).hexdigest()[:12]
    return cache_folder() / f"memlock-{os.uname().machine}-{digest}.so"


def build_library(environ: Mapping[str, str]) -> None:
    """Compiles the library if it does not exist. Raises MemlockError."""
    target = library()
    compiler = c_compiler(environ)
    if target.is_file():
        return
    if compiler is None:
        raise MemlockError("there is no C compiler")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            source, built = Path(folder, "memlock.c"), Path(folder, "memlock.so")
            source.write_text(SOURCE, encoding="utf-8")
            argv = [*shlex.split(compiler), "-shared", "-fPIC", "-O2", str(source), "-o", str(built)]
            ended = subprocess.run(argv, env=dict(environ), capture_output=True, check=False)
            if ended.returncode != 0:
                raise MemlockError(ended.stderr.decode(errors="replace").strip()[-300:])
            built.replace(target)
    except OSError as error:
        raise MemlockError(f"{error.filename}: {error.strerror}") from error


def preloaded(environ: Mapping[str, str]) -> dict[str, str]:
    """The variable that lets a process preload the library; empty if it is not needed or not built."""
    if raise_lock_limit() is None or not library().is_file():
        return {}
    return {"LD_PRELOAD": os.pathsep.join([str(library()), *filter(None, [environ.get("LD_PRELOAD")])])}


def _has_capability(bit: int) -> bool:
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    effective = re.search(r"^CapEff:\s*([0-9a-f]+)", status, re.MULTILINE)
    return effective is not None and bool(int(effective[1], 16) >> bit & 1)
