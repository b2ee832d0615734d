"""Fixtures for tests of the training data."""

from pathlib import Path
from typing import Any

import datasets
import pytest
import transformers


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of `datasets`, with the hub offline."""
    folder = tmp_path / "cache"
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    return folder


@pytest.fixture
def tokenizer() -> Any:
    """The byte-level tokenizer."""
    return transformers.ByT5Tokenizer(extra_ids=0)
