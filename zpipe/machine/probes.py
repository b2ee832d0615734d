"""Checks, before anything is spawned, that the machine has what the plan needs and zpipe cannot install."""

import importlib.util
import mmap
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from humanize import naturalsize

from zpipe.machine.libaio import c_compiler, fetched_folder, find_libaio
from zpipe.machine.libaio_packages import FetchError, Say, fetch_libaio
from zpipe.machine.memlock import MemlockError, build_library, raise_lock_limit
from zpipe.machine.packages import missing_packages
from zpipe.plans.plan import Plan
from zpipe.problems import Problem
from zpipe.runfolder.swap_folder import create_swap_folder, folders_to_create, remove_swap_folder

CUDA_OPERATORS = ("fused_adam", "fused_lion", "fused_lamb")
SOCKET_PATH_BYTES = 107
"""Of an address of AF_UNIX (unix(7)), without the NUL at its end."""
SOCKET_BELOW_TMPDIR = "/pymp-xxxxxxxx/listener-xxxxxxxx"
WORKER_PACKAGES = ("torch", "transformers", "accelerate", "deepspeed", "datasets")


def missing_requirements(plan: Plan, say: Say) -> list[Problem]:
    """Everything that the plan needs and this machine does not have.

    What can be fetched without root is fetched; `say` receives one line per step.
    """
    created = folders_to_create(plan)
    found = [*_packages(), *missing_packages(plan), *_compilers(plan), *_kernel_compiler(plan)]
    found += _libaio(plan, say)
    found += [*_locked_memory(plan, say), *_direct_io(plan), *_socket_paths(plan)]
    if found:
        remove_empty(plan, created)
    return found


def remove_empty(plan: Plan, created: Iterable[Path]) -> None:
    """A run that does not start leaves no folder behind that a mistyped offload.nvme_path names."""
    remove_swap_folder(plan)
    for folder in created:
        with suppress(OSError):
            folder.rmdir()


def lacking(plan: Plan) -> frozenset[str]:
    """Names of what the plan needs and this machine does not have; fetches, builds and writes nothing."""
    missing = *missing_packages(plan), *_compilers(plan), *_kernel_compiler(plan)
    names = {problem.key for problem in missing}
    if "async_io" in plan.operators and find_libaio({**os.environ, **plan.launch.env}) is None:
        names.add("libaio")
    return frozenset(names)


def _packages() -> Iterator[Problem]:
    for package in WORKER_PACKAGES:
        if importlib.util.find_spec(package) is None:
            yield Problem(package, "not installed", "training needs it", fix=f"pip install {package}")


def _compilers(plan: Plan) -> Iterator[Problem]:
    """DeepSpeed builds its operators on first use, and requires ninja even if they are already built."""
    if not plan.operators:
        return
    operators = ", ".join(plan.operators)
    path = plan.launch.env["PATH"]
    compiler = os.environ.get("CXX", "c++")
    if shutil.which(shlex.split(compiler)[0], path=path) is None:
        yield Problem("c++", "not found", f"DeepSpeed builds {operators} with it", fix="apt-get install g++")
    if shutil.which("ninja", path=path) is None:
        yield Problem("ninja", "not found", f"DeepSpeed builds {operators} with it", fix="pip install ninja")
    kernels = [name for name in plan.operators if name in CUDA_OPERATORS and plan.launch.device == "cuda"]
    if kernels and shutil.which("nvcc", path=_cuda_path({**os.environ, **plan.launch.env})) is None:
        without = "optimizer.params.torch_adam=true" if kernels == ["fused_adam"] else "optimizer=adamw_torch"
        yield Problem(
            "nvcc",
            "not found",
            f"DeepSpeed builds {', '.join(kernels)} with CUDA's compiler",
            "in CUDA_HOME/bin where CUDA_HOME is set, else in PATH or /usr/local/cuda/bin",
            fix=f"{without}, or install the CUDA toolkit that matches PyTorch",
        )


def _kernel_compiler(plan: Plan) -> Iterator[Problem]:
    """Triton builds the host's side of each kernel (triton/runtime/build.py), and on a CPU Inductor C++."""
    is_compiled, on_gpu = plan.experiment.train.is_compiled, plan.launch.device == "cuda"
    uses_triton = on_gpu and (is_compiled or plan.training_arguments.get("use_liger_kernel"))
    if not (uses_triton or is_compiled):
        return
    environment = {**os.environ, **plan.launch.env}
    variable, usual = ("CC", ("gcc", "clang")) if on_gpu else ("CXX", ("c++", "g++", "clang++"))
    named = environment.get(variable)
    wanted = (shlex.split(named)[0],) if named else usual
    if not any(shutil.which(each, path=environment.get("PATH")) for each in wanted):
        what = "PyTorch and Triton build compiled layers and Liger's kernels with it"
        fix = f"apt-get install {'gcc' if on_gpu else 'g++'}, or compile=none kernels=none"
        yield Problem(wanted[0], "not found", what, fix=fix)


def _cuda_path(environment: Mapping[str, str]) -> str:
    """Where PyTorch looks for nvcc (torch/utils/cpp_extension.py, _find_cuda_home)."""
    home = environment.get("CUDA_HOME") or environment.get("CUDA_PATH")
    return f"{home}/bin" if home else f"{environment.get('PATH', '')}:/usr/local/cuda/bin"


def _libaio(plan: Plan, say: Say) -> Iterator[Problem]:
    environ = {**os.environ, **plan.launch.env}
    compiler = shlex.split(environ.get("CXX", "c++"))[0]
    if "async_io" not in plan.operators or shutil.which(compiler, path=environ.get("PATH")) is None:
        return
    if c_compiler(environ) is None:
        yield Problem("cc", "not found", "DeepSpeed tests libaio with it", fix="apt-get install gcc")
    if find_libaio(environ) is not None:
        return
    try:
        fetch_libaio(say)
    except FetchError as error:
        reason = f"NVMe offload reads and writes files through it, and it could not be fetched: {error}"
    else:
        if find_libaio(environ) is not None:
            return
        reason = f"NVMe offload needs it, and a test program does not link with the one in {fetched_folder()}"
    yield Problem(
        "libaio",
        "not found",
        reason,
        "header and library in the system, in a conda environment, or in CPATH and LIBRARY_PATH",
        "apt-get install libaio-dev (dnf install libaio-devel), export CPATH=FOLDER LIBRARY_PATH=FOLDER, or "
        "offload=cpu",
    )


def _locked_memory(plan: Plan, say: Say) -> Iterator[Problem]:
    """DeepSpeed locks every swap buffer in memory, which the limit of an ordinary user does not allow."""
    if "async_io" not in plan.operators or (limit := raise_lock_limit()) is None:
        return
    size = naturalsize(limit, binary=True)
    allowed = "enough for all swap buffers, or unlimited"
    fix = "ulimit -l unlimited, where limits.conf, systemd or the container allows it, or offload=cpu"
    if not plan.launch.argv:
        reason = "swapping locks its buffers in memory, and the process would abort"
        yield Problem("ulimit -l", size, reason, allowed, f"launcher=torchrun, or {fix}")
        return
    try:
        build_library({**os.environ, **plan.launch.env})
    except MemlockError as error:
        reason = (
            f"swapping locks its buffers in memory, and the library that lets it fail was not built: {error}"
        )
        yield Problem("ulimit -l", size, reason, allowed, fix)
    else:
        say(f"swap buffers beyond {size} are not locked in memory and may be paged out (ulimit -l)")


def _socket_paths(plan: Plan) -> Iterator[Problem]:
    """Data loader workers send tensors through sockets in the temporary folder.

    A longer path raises OSError in the worker, and the training waits for its batches for ever.
    """
    if plan.experiment.train.dataloader_num_workers == 0:
        return
    folder = _temporary_folder({**os.environ, **plan.launch.env})
    length, most = len(os.fsencode(folder)), SOCKET_PATH_BYTES - len(SOCKET_BELOW_TMPDIR)
    if length > most:
        yield Problem(
            "TMPDIR",
            folder,
            f"{length} bytes are too many for the sockets of data loader workers",
            f"a folder whose path has at most {most} bytes",
            "launcher.env.TMPDIR=/tmp, or train.dataloader_num_workers=0",
        )


def _temporary_folder(environment: Mapping[str, str]) -> str:
    """What tempfile.gettempdir returns with these variables."""
    named = (environment.get(name) for name in ("TMPDIR", "TEMP", "TMP"))
    usable = (name for name in named if name and os.access(name, os.W_OK | os.X_OK) and Path(name).is_dir())
    return str(Path(next(usable, tempfile.gettempdir())).absolute())


def _write_directly(file: Path) -> None:
    """Writes one page past the cache. Raises OSError."""
    flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_DIRECT", 0)
    descriptor = os.open(file, flags, 0o600)
    try:
        with mmap.mmap(-1, mmap.PAGESIZE) as page:  # O_DIRECT needs memory that begins with a page
            os.write(descriptor, page)
    finally:
        os.close(descriptor)


def _direct_io(plan: Plan) -> Iterator[Problem]:
    """The swap folder must be writable, with room, on a file system with O_DIRECT; tmpfs may have none."""
    if plan.swap_dir is None:
        return
    folder = Path(plan.swap_dir)
    try:
        create_swap_folder(plan)
        probe = folder / f"probe-{os.getpid()}"
        try:
            _write_directly(probe)
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        yield Problem(
            "offload.nvme_path",
            str(folder),
            f"cannot hold swap files: {error.strerror}",
            "a writable folder on a file system with O_DIRECT (ext4, xfs)",
            "offload.nvme_path=/path/on/the/nvme",
        )
