"""Operators are built without debug symbols, and nothing that is built is built again for other flags."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from zpipe.train.operator_sources import restore_build, shorten_build


@pytest.mark.parametrize(
    ("built_with", "flags"),
    [
        (None, ["-O3", "-g", "-g0"]),
        ("cflags = -O3 -g -g0\n", ["-O3", "-g", "-g0"]),
        ("cflags = -O3 -g\n", ["-O3", "-g"]),
    ],
    ids=["not built", "built by zpipe", "built by DeepSpeed"],
)
def test_the_flags_of_a_built_operator_stay(built_with: str | None, flags: list[str], tmp_path: Path) -> None:
    builder = SimpleNamespace(name="cpu_adagrad", cxx_args=lambda: ["-O3", "-g"])
    if built_with is not None:
        (tmp_path / "cpu_adagrad.so").touch()
        (tmp_path / "build.ninja").write_text(built_with)
    assert not shorten_build(builder, tmp_path)
    assert builder.cxx_args() == flags


class Builder:
    """async_io's, in a folder that has one of its sources beside another one."""

    name = "async_io"

    def __init__(self, root: Path) -> None:
        self.root = root
        for file in ("csrc/aio/py_lib/a.cpp", "csrc/aio/py_lib/a.h", "csrc/aio/common/b.cpp"):
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).touch()

    def deepspeed_src_path(self, path: str) -> str:
        return str(self.root / path)

    def sources(self) -> list[str]:
        return ["csrc/aio/py_lib/a.cpp", "csrc/aio/common/b.cpp"]

    def include_paths(self) -> list[str]:
        return ["csrc/aio/py_lib"]

    def cxx_args(self) -> list[str]:
        return ["-O3"]


def test_sources_with_pytorchs_headers_are_joined_and_can_be_restored(tmp_path: Path) -> None:
    builder = Builder(tmp_path)
    assert shorten_build(builder, tmp_path)
    joined = tmp_path / "joined.cpp"
    assert builder.sources() == ["csrc/aio/common/b.cpp", str(joined)]
    place = tmp_path / "csrc" / "aio" / "py_lib"
    _, header, source = joined.read_text().splitlines()
    assert (header, source) == (f'#import "{place / "a.h"}"', f'#include "{place / "a.cpp"}"')
    restore_build(builder)
    assert (builder.sources(), builder.cxx_args()) == (Builder(tmp_path).sources(), ["-O3"])
