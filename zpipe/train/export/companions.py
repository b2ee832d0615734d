"""The files beside the weights of a model folder: its configuration, and those of its tokenizer."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zpipe.problems import Problem, Refusal
from zpipe.runfolder.atomic import write_json
from zpipe.runfolder.foreign_files import is_below, is_regular, read_bytes, read_text
from zpipe.train.export.dtypes import CONFIG
from zpipe.train.export.weights import INDEX_NAME

_CONFIG = "config.json"
_SUFFIXES = frozenset({".json", ".jinja", ".txt", ".model"})
_OF_THE_TRAINING = frozenset({_CONFIG, INDEX_NAME, "manifest.json", "trainer_state.json"})
_RUNNING_LOSS = "running_loss_"
_TEMPLATES = "additional_chat_templates"


def write_companions(source: Path, target: Path, dtype: str) -> None:
    """Copies them; the copy of config.json has the exported format. Raises Refusal if config.json is none."""
    write_json(target / _CONFIG, _with_dtype(_read_config(source / _CONFIG), CONFIG[dtype]))
    for file in _companions(source):
        copy = target / file.relative_to(source)
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(read_bytes(file))


def _companions(source: Path) -> Iterator[Path]:
    for file in sorted([*source.iterdir(), *(source / _TEMPLATES).glob("*.jinja")]):
        is_ours = file.name in _OF_THE_TRAINING or file.name.startswith(_RUNNING_LOSS)
        if file.suffix in _SUFFIXES and not is_ours and is_regular(file) and is_below(file, source):
            yield file


def _read_config(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_text(file))
    except (OSError, ValueError, RecursionError) as error:
        reason = f"config.json cannot be read: {getattr(error, 'strerror', None) or 'not JSON'}"
        raise Refusal([Problem("RUN", str(file.parent), reason)]) from None
    if not isinstance(content, dict):
        raise Refusal([Problem("RUN", str(file.parent), "config.json is not a mapping of names to values")])
    return content


def _with_dtype(config: dict[str, Any], name: str) -> dict[str, Any]:
    """The same with this format, also in the configurations of parts such as text_config."""
    changed = {
        key: _with_dtype(value, name) if isinstance(value, dict) and key.endswith("_config") else value
        for key, value in config.items()
    }
    changed.pop("torch_dtype", None)  # the old name
    return changed | {"dtype": name}
