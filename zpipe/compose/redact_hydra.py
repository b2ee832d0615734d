"""Removes secrets from the YAML files that Hydra writes for a run and for a sweep."""

from pathlib import Path

import yaml

from zpipe.redact import redact, redact_tree
from zpipe.runfolder.atomic import write_text


def hide_secrets(folder: Path) -> None:
    """Rewrites the YAML files of a folder that contain secrets."""
    for file in folder.glob("*.yaml"):
        text = file.read_text(encoding="utf-8", errors="surrogateescape")
        if redact(text) != text:
            safe = redact_tree(yaml.safe_load(text))
            write_text(file, yaml.safe_dump(safe, sort_keys=False, allow_unicode=True))
