"""Locates libaio, which NVMe offload needs, for the check before a run and for the build in the worker alike.

DeepSpeed compiles its async_io operator against libaio's header and links it with -laio. The compiler finds
both in its own folders, in CPATH and LIBRARY_PATH. torch's build reads neither CFLAGS nor LDFLAGS, which
DeepSpeed's messages recommend, so their folders are translated to CPATH and LIBRARY_PATH.
"""

import ctypes
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping, MutableMapping
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from zpipe.machine.cache import cache_folder

TEST_PROGRAM = "#include <libaio.h>\nint main() { io_context_t c = 0; return io_setup(1, &c); }\n"
SHARED_OBJECT = "libaio.so.1"


class Libaio(NamedTuple):
    """Folders in which the compiler finds libaio in addition to its own; empty if its own are enough."""

    include: tuple[str, ...] = ()
    library: tuple[str, ...] = ()

    def variables(self, environ: Mapping[str, str]) -> dict[str, str]:
        """CPATH and LIBRARY_PATH with these folders first."""
        return {
            name: os.pathsep.join([*folders, *filter(None, [environ.get(name)])])
            for name, folders in (("CPATH", self.include), ("LIBRARY_PATH", self.library))
            if folders
        }


def fetched_folder() -> Path:
    """Where zpipe unpacks libaio if the system has none: include/ and lib/."""
    return cache_folder() / "libaio" / os.uname().machine


def find_libaio(environ: Mapping[str, str]) -> Libaio | None:
    """The first place with which a test program compiles and links; None if there is none."""
    return next((place for place in _places(environ) if _links(place, environ)), None)


def use_libaio(environ: MutableMapping[str, str]) -> None:
    """Lets this process build and load async_io: sets the compiler's variables, and loads libaio itself.

    The operator does not record where libaio was, and LD_LIBRARY_PATH is only read when a process starts.
    """
    compiler = c_compiler(environ)
    if compiler is not None:
        environ["CC"] = compiler
    place = find_libaio(environ)
    if place is None:
        return
    environ.update(place.variables(environ))
    for folder in environ.get("LIBRARY_PATH", "").split(os.pathsep):
        shared = Path(folder, SHARED_OBJECT)
        if folder and shared.is_file():
            ctypes.CDLL(str(shared), mode=ctypes.RTLD_GLOBAL)
            return


def c_compiler(environ: Mapping[str, str]) -> str | None:
    """The C compiler for DeepSpeed's test of libaio, with its flags; None if this machine has none.

    DeepSpeed runs the compiler that built Python. A Python built elsewhere may name one that is not here.
    """
    configured = (environ.get("CC"), sysconfig.get_config_var("CC"), "cc", "gcc", "clang")
    found = (command for command in configured if command and shlex.split(command))
    return next(
        (each for each in found if shutil.which(shlex.split(each)[0], path=environ.get("PATH"))), None
    )


def _places(environ: Mapping[str, str]) -> Iterator[Libaio]:
    flags = [*shlex.split(environ.get("CFLAGS", "")), *shlex.split(environ.get("LDFLAGS", ""))]
    flagged = Libaio(_folders(flags, "-I"), _folders(flags, "-L"))
    yield flagged
    prefixes = [environ.get("CONDA_PREFIX"), sys.prefix, sys.base_prefix, str(fetched_folder())]
    for prefix in dict.fromkeys(filter(None, prefixes)):
        include, library = Path(prefix, "include"), Path(prefix, "lib")
        if (include / "libaio.h").is_file() and library.is_dir():
            yield Libaio((*flagged.include, str(include)), (*flagged.library, str(library)))


def _folders(flags: list[str], option: str) -> tuple[str, ...]:
    """The folders after -I or -L, written together with it or as the next argument."""
    found = []
    for flag, following in pairwise([*flags, ""]):
        if flag.startswith(option):
            found.append(flag.removeprefix(option) or following)
    return tuple(filter(None, found))


def _links(place: Libaio, environ: Mapping[str, str]) -> bool:
    """Whether the compiler of the build finds header and library with this place's variables and no flags."""
    argv = shlex.split(environ.get("CXX", "c++"))
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.cpp")
        source.write_text(TEST_PROGRAM, encoding="utf-8")
        try:
            linked = subprocess.run(
                [*argv, str(source), "-laio", "-o", str(Path(folder, "probe"))],
                env={**environ, **place.variables(environ)},
                capture_output=True,
                check=False,
            )
        except OSError:
            return False
        return linked.returncode == 0
