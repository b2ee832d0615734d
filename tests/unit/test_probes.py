"""What a plan needs is looked for where the libraries look for it."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.planning import H200, gpus, plan_of
from tests.support.plans import make_plan
from zpipe.machine.probes import missing_requirements
from zpipe.machine.search_path import reachable_path
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


@contextmanager
def as_ordinary_user() -> Iterator[None]:
    """Root may enter every folder."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_workers_look_for_no_program_in_folders_that_are_closed_to_them() -> None:
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        base.chmod(0o755)
        (base / "open").mkdir()
        (base / "closed" / "bin").mkdir(parents=True)
        (base / "closed").chmod(0)
        given = [str(base / each) for each in ("open", "closed", "closed/bin", "missing")]
        with as_ordinary_user():
            found = reachable_path({"PATH": os.pathsep.join(given)})
        (base / "closed").chmod(0o700)
    assert found["PATH"].split(os.pathsep) == [given[0], given[3]]
    assert reachable_path({}) == {}


@pytest.mark.parametrize("overrides", [("compile=regional",), ("kernels=liger",), ("kernels=fused_loss",)])
def test_kernels_of_triton_need_a_c_compiler(
    overrides: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CC", raising=False)
    plan = plan_of(*overrides, "optimizer=adamw_torch", hardware=gpus(H200))
    launch = plan.launch.model_copy(update={"env": {"PATH": str(tmp_path)}})
    plan = plan.model_copy(update={"launch": launch, "run_dir": str(tmp_path / "run")})
    assert "gcc" in [each.key for each in missing_requirements(plan, print)]
    program(tmp_path, "clang")
    assert "gcc" not in [each.key for each in missing_requirements(plan, print)]
