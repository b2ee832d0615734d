"""Reviewed output, kept as files under tests/golden."""

import os
from pathlib import Path

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


def assert_golden(name: str, text: str) -> None:
    """Compares the text with tests/golden/NAME; writes the file first if ZPIPE_RENEW_GOLDEN is set."""
    file = GOLDEN / name
    if os.environ.get("ZPIPE_RENEW_GOLDEN"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    reviewed = file.read_text() if file.exists() else ""
    assert text == reviewed, (
        f"tests/golden/{name} differs from the output. If the change is intended, run `make golden`, "
        f"review the file and commit it."
    )
