"""What a plan needs is looked for where the libraries look for it."""

from pathlib import Path

import pytest

from tests.support.plans import make_plan
from zpipe.machine.probes import missing_requirements
from zpipe.plans.plan import Launch


def program(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("#!/bin/sh\n")
    (folder / name).chmod(0o755)
    return folder


@pytest.mark.parametrize(
    ("home_has_it", "path_has_it", "is_missing"),
    [(True, False, False), (False, True, True), (None, True, False)],
)
def test_cuda_home_decides_where_nvcc_is_looked_for(
    home_has_it: bool | None,
    path_has_it: bool,
    is_missing: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """torch/utils/cpp_extension.py looks nowhere else if CUDA_HOME is set."""
    path = tmp_path / "bin"
    for name in ("c++", "ninja", *(["nvcc"] if path_has_it else [])):
        program(path, name)
    home = tmp_path / "cuda"
    monkeypatch.delenv("CUDA_HOME", raising=False)
    monkeypatch.delenv("CUDA_PATH", raising=False)
    if home_has_it is not None:
        monkeypatch.setenv("CUDA_HOME", str(home))
        program(home / "bin", "nvcc" if home_has_it else "other")
    launch = Launch(
        launcher="torchrun",
        device="cuda",
        nproc_per_node=1,
        world_size=1,
        argv=["x"],
        env={"PATH": str(path)},
    )
    plan = make_plan(tmp_path / "run", launch=launch, operators=["fused_adam"])
    assert ("nvcc" in [each.key for each in missing_requirements(plan, print)]) is is_missing
