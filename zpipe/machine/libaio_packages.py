"""Fetches libaio without root: the system's own package tool downloads it, and zpipe's cache keeps it.

The package tool checks the signatures of what it downloads. Nothing is installed: only header and library are
taken out (apt-get on Debian and Ubuntu, dnf on Fedora, RHEL and their relatives).
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from zpipe.machine.libaio import SHARED_OBJECT, fetched_folder

Say = Callable[[str], None]
COMMAND_SECONDS = 180.0
APT_OPTIONS = (
    "-o",
    "Acquire::Retries=1",
    "-o",
    "Acquire::http::Timeout=20",
    "-o",
    "Acquire::https::Timeout=20",
)


class FetchError(Exception):
    """libaio could not be fetched; the text says which command failed and why."""


def fetch_libaio(say: Say) -> None:
    """Fills `fetched_folder()`; `say` receives one line per step. Raises FetchError."""
    from filelock import FileLock  # planning takes no lock

    target = fetched_folder()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            if target.is_dir():
                return
            with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
                tool = _tool()
                say(f"libaio is not installed: fetching it with {tool}, without root, to {target}")
                unpacked = _FETCH[tool](Path(scratch), say)
                _collect(unpacked, Path(scratch, "libaio")).rename(target)
    except OSError as error:
        raise FetchError(f"{error.filename or target}: {error.strerror or error}") from error


def _tool() -> str:
    for tool, unpacker in (("apt-get", "dpkg-deb"), ("dnf", "rpm2cpio")):
        if shutil.which(tool) and shutil.which(unpacker):
            return tool
    raise FetchError("neither apt-get nor dnf is there to fetch it with")


def _with_apt(scratch: Path, say: Say) -> Path:
    """Tries the system's package lists first; a fresh container has none, so own ones are fetched then."""
    try:
        _download_debs(scratch, say, ())
    except FetchError:
        lists = scratch / "lists"
        (lists / "partial").mkdir(parents=True)
        own = ("-o", f"Dir::State::Lists={lists}", "-o", f"Dir::Cache={scratch}")
        say("the system's package lists do not suffice: fetching them to zpipe's cache")
        _run(["apt-get", *APT_OPTIONS, *own, "--error-on=any", "update"], scratch)
        _download_debs(scratch, say, own)
    unpacked = scratch / "unpacked"
    for package in sorted(scratch.glob("*.deb")):
        _run(["dpkg-deb", "--extract", str(package), str(unpacked)], scratch)
    return unpacked


def _download_debs(scratch: Path, say: Say, options: Sequence[str]) -> None:
    """libaio-dev and the library, whose package is libaio1 or libaio1t64, depending on the release."""
    listing = _run(["apt-cache", *options, "depends", "libaio-dev"], scratch)
    words = [line.split() for line in listing.splitlines()]
    names = [each[1] for each in words if each[:1] == ["Depends:"] and each[1].startswith("libaio1")]
    packages = ["libaio-dev", *names]
    say(f"apt-get download {' '.join(packages)}")
    _run(["apt-get", *APT_OPTIONS, *options, "download", *packages], scratch)


def _with_dnf(scratch: Path, say: Say) -> Path:
    packages = ["libaio", "libaio-devel"]
    say(f"dnf download {' '.join(packages)}")
    _run(["dnf", "download", "--arch", os.uname().machine, "--destdir", str(scratch), *packages], scratch)
    unpacked = scratch / "unpacked"
    unpacked.mkdir()
    for package in sorted(scratch.glob("*.rpm")):
        archive = subprocess.run(["rpm2cpio", str(package)], capture_output=True, check=False).stdout
        _run(["cpio", "--extract", "--make-directories", "--quiet"], unpacked, given=archive)
    return unpacked


_FETCH: dict[str, Callable[[Path, Say], Path]] = {"apt-get": _with_apt, "dnf": _with_dnf}


def _collect(unpacked: Path, folder: Path) -> Path:
    """include/libaio.h and lib/libaio.so.1, with the name that the linker looks for beside it."""
    headers = [file for file in unpacked.rglob("libaio.h") if file.is_file()]
    libraries = [
        file for file in unpacked.rglob(f"{SHARED_OBJECT}*") if file.is_file() and not file.is_symlink()
    ]
    if not headers or not libraries:
        raise FetchError("the downloaded packages hold no libaio.h or no libaio.so.1")
    for name in ("include", "lib"):
        (folder / name).mkdir(parents=True)
    shutil.copyfile(headers[0], folder / "include" / "libaio.h")
    shutil.copyfile(libraries[0], folder / "lib" / SHARED_OBJECT)
    (folder / "lib" / "libaio.so").symlink_to(SHARED_OBJECT)
    return folder


def _run(argv: list[str], folder: Path, given: bytes | None = None) -> str:
    """What the command printed. Raises FetchError with its last line if it fails or takes too long."""
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        ended = subprocess.run(
            argv,
            cwd=folder,
            env=environment,
            input=given,
            capture_output=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise FetchError(f"{argv[0]} took longer than {COMMAND_SECONDS:.0f} s") from None
    if ended.returncode != 0:
        lines = ended.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise FetchError(
            f"{' '.join(each for each in argv if '=' not in each and each != '-o')}: {lines[-1]}"
        )
    return ended.stdout.decode(errors="replace")
