"""A wheel installed alone plans from any folder, with the options and recipes that it carries."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.process import REPOSITORY

pytestmark = pytest.mark.real


def test_a_wheel_alone_plans_from_any_folder(tmp_path: Path) -> None:
    dist, site = tmp_path / "dist", tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", str(dist), str(REPOSITORY)], check=True)
    (wheel,) = dist.glob("zpipe-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(site), str(wheel)], check=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "zpipe", "plan", "recipe=zero3_nvme"],
        cwd=elsewhere,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert '"device": "nvme"' in done.stdout
    assert (site / "zpipe" / "_resources" / "conf" / "config.yaml").is_file()
    assert list((elsewhere / "outputs").rglob("plan.json"))
