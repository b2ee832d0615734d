"""A run that does not start leaves no folder behind that offload.nvme_path names."""

from pathlib import Path

import pytest

from tests.support.planning import plan_of
from zpipe.machine import probes
from zpipe.problems import Problem


@pytest.mark.parametrize(("refuses", "stays"), [(True, False), (False, True)])
def test_mistyped_path_is_not_created(
    refuses: bool, stays: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = tmp_path / "nvmee" / "swap"
    plan = plan_of("stage=3", "offload=nvme", f"offload.nvme_path={wrong}", run_dir=tmp_path / "run")
    for name in ("_packages", "missing_packages", "_compilers", "_socket_paths"):
        monkeypatch.setattr(probes, name, lambda plan=None: ())
    found = [Problem("libaio", "not found", "why")] if refuses else []
    monkeypatch.setattr(probes, "_libaio", lambda plan, say: found)
    monkeypatch.setattr(probes, "_locked_memory", lambda plan, say: ())
    assert probes.missing_requirements(plan, lambda text: None) == found
    assert (tmp_path / "nvmee").exists() == stays


def test_folder_that_was_there_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of("stage=3", "offload=nvme", f"offload.nvme_path={tmp_path}", run_dir=tmp_path / "run")
    monkeypatch.setattr(probes, "_libaio", lambda plan, say: [Problem("libaio", "not found", "why")])
    assert probes.missing_requirements(plan, lambda text: None)
    assert list(tmp_path.iterdir()) == []
