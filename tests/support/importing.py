"""Helpers for import tests."""

import json
from pathlib import Path
from typing import Any

from zpipe.cli.main import run_verb
from zpipe.converters.importer import Imported

GUIDE = Path(__file__).resolve().parents[1] / "inputs" / "guide"
"""The JSON fragments of the DeepSpeed guide, unchanged."""


def named(imported: Imported) -> set[str]:
    """Keys of the JSON that the import reported; one note can name several."""
    keys = [note.key for note in imported.notes] + [each.problem.key for each in imported.findings]
    return {key for listed in keys for key in listed.split(", ")}


def unnamed(different: dict[str, Any], imported: Imported) -> dict[str, Any]:
    """The differences that the import did not report."""
    names = named(imported)
    return {
        key: values
        for key, values in different.items()
        if not any(key == name or key.startswith(f"{name}.") for name in names)
    }


def written(folder: Path, content: Any, name: str = "ds_config.json") -> Path:
    file = folder / name
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


def import_(arguments: list[str]) -> int:
    """Runs `zpipe import` and returns its exit code. Raises Refusal."""
    return run_verb("import", arguments)
