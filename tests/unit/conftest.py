"""Fixtures of the unit tests that record to MLflow."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.store import put_store
from zpipe.record.client import open_client
from zpipe.record.store import default_uri


@pytest.fixture(scope="module")
def base(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with a store."""
    return put_store(empty_store, tmp_path_factory.mktemp("work"))


@pytest.fixture
def client(base: Path) -> Any:
    return open_client(default_uri(base))
