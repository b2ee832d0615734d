"""Fixtures of all tests: text to train on, an empty store, a browser."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.browser import headless
from tests.support.process import REPOSITORY, SMALL, losses, zpipe
from zpipe.machine.hardware import detect

IN_CI = os.environ.get("CI") == "true"

# Containers often set it: every process of a test would then compile the modules of zpipe again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


REAL_SECONDS = 1800
"""The limit for a test that trains: the first one on a machine builds DeepSpeed operators for minutes."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Raises the time limit of pyproject.toml for tests that train, and skips GPU tests without a GPU."""
    for item in items:
        if item.get_closest_marker("real"):
            item.add_marker(pytest.mark.timeout(REAL_SECONDS))
        if item.get_closest_marker("gpu") and not detect().gpus:
            item.add_marker(pytest.mark.skip(reason="this machine has no GPU"))


def needs(tool: str, found: bool) -> None:
    """Skips a test on a user's machine without the tool; in CI a missing tool is a failure."""
    if not found and IN_CI:
        pytest.fail(f"{tool} is missing: .ci/run installs it")
    if not found:
        pytest.skip(f"{tool} is missing on this machine; .ci/run installs it")


@pytest.fixture(scope="session")
def libaio() -> None:
    """Marks a test that reads and writes swap files."""
    from zpipe.machine.libaio import find_libaio

    needs("libaio-dev", find_libaio(os.environ) is not None)


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of the browser."""
    path = shutil.which("chromium") or ""
    needs("chromium", bool(path) and shutil.which("chromedriver") is not None)
    return path


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Any]:
    """A headless Chromium."""
    with headless(chromium) as driver:
        yield driver


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sqlite store without runs, to be copied: MLflow takes seconds to make one."""
    from zpipe.record.store import default_uri, prepare_store

    folder = tmp_path_factory.mktemp("empty")
    prepare_store(default_uri(folder))
    return folder / "outputs" / "mlflow.db"


@pytest.fixture(scope="session")
def losses_of_two_ranks(tmp_path_factory: pytest.TempPathFactory, text_file: Path) -> list[float]:
    """Of a short run with two processes of this machine under torchrun."""
    cwd = tmp_path_factory.mktemp("two-ranks")
    run = zpipe(cwd, *SMALL, "launcher.nproc_per_node=2", f"data.path={text_file}", "tracking=none")
    assert run.exit_code == 0, run.explain()
    return losses(run.folder)


@pytest.fixture(scope="session")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 kB of English and code, one example a line."""
    file = tmp_path_factory.mktemp("data") / "train.txt"
    text = (REPOSITORY / "LICENSE").read_text()
    file.write_text(text * 10)
    return file
