"""libaio is found where it is, fetched without root where it is not, and reported where it cannot be fetched.

The compiler of these tests knows no libaio of the system, as on a machine without libaio-dev.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import needs
from tests.support.process import SMALL, zpipe
from zpipe.machine.libaio import Libaio, find_libaio, use_libaio
from zpipe.machine.libaio_packages import FetchError, fetch_libaio

pytestmark = pytest.mark.real

BARE_COMPILER = """#!{python}
import os, pathlib, sys
folders = {{name: os.environ.get(name, "").split(":") for name in ("CPATH", "LIBRARY_PATH")}}
header = any(pathlib.Path(each, "libaio.h").is_file() for each in folders["CPATH"] if each)
library = any(pathlib.Path(each, "libaio.so").is_file() for each in folders["LIBRARY_PATH"] if each)
if "-laio" in sys.argv and not (header and library):
    sys.exit("libaio.h: No such file or directory")
os.execvp("c++", ["c++", *sys.argv[1:]])
"""


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment whose C++ compiler finds libaio only in CPATH and LIBRARY_PATH."""
    compiler = tmp_path_factory.mktemp("compiler") / "bare-c++"
    compiler.write_text(BARE_COMPILER.format(python=sys.executable))
    compiler.chmod(0o755)
    return {"PATH": os.environ["PATH"], "CXX": str(compiler)}


@pytest.fixture(scope="module")
def fetched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A cache with what the system's package tool downloaded, and the lines that were shown."""
    cache = tmp_path_factory.mktemp("cache")
    lines: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache))
        try:
            fetch_libaio(lines.append)
        except FetchError as error:
            needs(f"a package server ({error})", found=False)
    return cache, lines


def prefix(fetched: tuple[Path, list[str]]) -> Path:
    return fetched[0] / "zpipe" / "libaio" / os.uname().machine


def test_the_fetch_is_shown_and_leaves_header_and_library_alone(fetched: tuple[Path, list[str]]) -> None:
    files = sorted(str(file.relative_to(fetched[0])) for file in fetched[0].rglob("*") if not file.is_dir())
    folder = f"zpipe/libaio/{os.uname().machine}"
    assert files == [
        f"{folder}.lock",
        f"{folder}/include/libaio.h",
        f"{folder}/lib/libaio.so",
        f"{folder}/lib/libaio.so.1",
    ]
    assert "fetching it with apt-get, without root" in fetched[1][0]
    assert any(line.startswith("apt-get download libaio-dev libaio1") for line in fetched[1])


def test_what_was_fetched_is_found_and_loaded(
    fetched: tuple[Path, list[str]], bare: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_libaio(bare) is None
    monkeypatch.setenv("XDG_CACHE_HOME", str(fetched[0]))
    folder = prefix(fetched)
    assert find_libaio(bare) == Libaio((str(folder / "include"),), (str(folder / "lib"),))
    environ = dict(bare)
    use_libaio(environ)
    assert str(folder / "lib" / "libaio.so.1") in Path("/proc/self/maps").read_text()
    source = folder.parent / "user.cpp"
    source.write_text("#include <libaio.h>\nint main() { io_context_t c = 0; return io_setup(1, &c); }\n")
    argv = [environ["CXX"], str(source), "-laio", "-o", str(source.with_suffix(""))]
    assert subprocess.run(argv, env=environ, check=False).returncode == 0


@pytest.mark.parametrize("way", ["conda", "flags", "flags apart", "search paths"])
def test_a_libaio_beside_the_system_is_found(
    way: str,
    fetched: tuple[Path, list[str]],
    bare: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))
    place = shutil.copytree(prefix(fetched), tmp_path / "place", symlinks=True)
    include, library = place / "include", place / "lib"
    given = {
        "conda": {"CONDA_PREFIX": str(place)},
        "flags": {"CFLAGS": f"-O2 -I{include}", "LDFLAGS": f"-L{library}"},
        "flags apart": {"CFLAGS": f"-I {include}", "LDFLAGS": f"-L {library}"},
        "search paths": {"CPATH": str(include), "LIBRARY_PATH": str(library)},
    }[way]
    found = find_libaio({**bare, **given})
    assert found is not None
    variables = {**given, **found.variables(given)}
    assert (variables["CPATH"], variables["LIBRARY_PATH"]) == (str(include), str(library))


def test_two_processes_fetch_once(
    bare: dict[str, str], fetched: tuple[Path, list[str]], tmp_path: Path
) -> None:
    code = "from zpipe.machine.libaio_packages import fetch_libaio; fetch_libaio(print)"
    environ = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    both = [
        subprocess.Popen([sys.executable, "-c", code], env=environ, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    printed = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(bool(text) for text in printed) == [False, True]


def test_a_machine_that_cannot_fetch_it_is_told_what_is_missing(
    text_file: Path, tmp_path: Path, bare: dict[str, str]
) -> None:
    """A proxy that does not answer is what apt-get sees on a machine without network."""
    offline = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    environ = {**offline, "CXX": bare["CXX"], "XDG_CACHE_HOME": str(tmp_path / "cache")}
    run = zpipe(tmp_path, *SMALL, "stage=3", "offload=nvme", f"data.path={text_file}", env=environ)
    assert run.exit_code == 3, run.explain()
    assert "libaio=not found" in run.stderr
    assert "apt-get install libaio-dev" in run.stderr
    assert "could not be fetched" in run.stderr
    assert "Traceback" not in run.stderr
    assert run.result["ending"] == "environment"
    assert not list((tmp_path / "cache" / "zpipe" / "libaio").glob("*/include"))
