"""Keeps secrets out of what Hydra itself writes, logs and prints, from the first byte.

Hydra writes its record of a run and of a sweep before zpipe gets control, and a process can be killed at any
time. Hence the functions that write are replaced (hydra/core/utils.py, _save_config; OmegaConf.save for
multirun.yaml), in every process that imports zpipe.compose.job, as those of Hydra's launchers do.
"""

import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import yaml
from hydra.core import utils
from omegaconf import OmegaConf

from zpipe.redact import redact, redact_tree, remember_overrides
from zpipe.yaml_text import yaml_text


class _Record(logging.LogRecord):
    """A line of a log; the launchers log every override."""

    def getMessage(self) -> str:  # noqa: N802 - logging's name
        return redact(super().getMessage())


def hide_secrets_in_hydra() -> None:
    """Replaces what Hydra writes and logs with. Can be called more than once."""
    utils._save_config = _save_config
    OmegaConf.save = staticmethod(_save)  # type: ignore[method-assign]
    OmegaConf.to_yaml = staticmethod(_to_yaml)  # type: ignore[method-assign]
    logging.setLogRecordFactory(_Record)


@contextmanager
def printed_without_secrets() -> Iterator[None]:
    """Prints what the block prints when it has ended, without secrets."""
    out, errors = io.StringIO(), io.StringIO()
    try:
        with redirect_stdout(out), redirect_stderr(errors):
            yield
    finally:
        sys.stdout.write(_without_secrets(out.getvalue()))
        sys.stderr.write(redact(errors.getvalue()))


def _without_secrets(text: str) -> str:
    """YAML, as of --cfg, by its keys; other text by what it looks like."""
    first, _, _ = text.partition("\n")
    package = first.removeprefix("# @package ").strip() if first.startswith("# @package ") else ""
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError:
        return redact(text)
    if not isinstance(content, dict | list):
        return redact(text)
    return (f"{first}\n" if package else "") + _dump(redact_tree(content, package))


def _save_config(cfg: Any, filename: str, output_dir: Path) -> None:
    output_dir.mkdir(parents=True, exist_ok=True)
    _save(cfg, output_dir / filename)


def _save(config: Any, f: Any, resolve: bool = False) -> None:
    Path(f).write_text(_to_yaml(config, resolve=resolve), encoding="utf-8", errors="backslashreplace")


def _to_yaml(cfg: Any, *, resolve: bool = False, sort_keys: bool = False) -> str:
    content = (
        OmegaConf.to_container(cfg, resolve=resolve, enum_to_str=True) if OmegaConf.is_config(cfg) else cfg
    )
    remember_overrides(_overrides(content))
    return _dump(redact_tree(content), sort_keys)


def _overrides(content: Any) -> list[str]:
    if isinstance(content, list):
        return [each for each in content if isinstance(each, str)]
    hydra = content.get("hydra") if isinstance(content, dict) else None
    given = hydra.get("overrides") if isinstance(hydra, dict) else None
    return list(given.get("task") or ()) if isinstance(given, dict) else []


def _dump(content: Any, sort_keys: bool = False) -> str:
    return yaml_text(content, sort_keys)
