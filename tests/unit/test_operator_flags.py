"""Operators are built without debug symbols, and nothing that is built is built again for other flags."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from zpipe.train.operators import leave_out_debug_symbols


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
    builder = SimpleNamespace(name="cpu_adam", cxx_args=lambda: ["-O3", "-g"])
    if built_with is not None:
        (tmp_path / "cpu_adam.so").touch()
        (tmp_path / "build.ninja").write_text(built_with)
    leave_out_debug_symbols(builder, tmp_path)
    assert builder.cxx_args() == flags
