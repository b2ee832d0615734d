"""Digests of the local files of a run, which must be the same when it goes on."""

from collections.abc import Iterator
from pathlib import Path

from zpipe.checks.model_folder import TIKTOKEN, TOKENIZER_FILES, tokenizer_folder
from zpipe.data.fingerprint import fingerprint
from zpipe.facts.facts import Facts
from zpipe.plans.plan import Inputs

_FURTHER_FILES = ("added_tokens.json", "special_tokens_map.json", "merges.txt", "chat_template.jinja")


def inputs_of(facts: Facts) -> Inputs:
    """Reads the files of the tokenizer; the data was read already."""
    folder = tokenizer_folder(facts)
    return Inputs(data=facts.data.fingerprint, tokenizer=None if folder is None else _digest(folder))


def _digest(folder: Path) -> str | None:
    try:
        return fingerprint(_tokenizer_files(folder))
    except OSError:  # the worker says which file it cannot read
        return None


def _tokenizer_files(folder: Path) -> Iterator[Path]:
    named = (folder / name for name in (*TOKENIZER_FILES, *_FURTHER_FILES))
    yield from (file for file in (*named, *folder.glob(TIKTOKEN)) if file.is_file())
