"""Reads the mapping in a file. Its content decides between JSON and YAML, because some are named `.conf`.

Reports line and column of what cannot be read.
"""

import json
from pathlib import Path
from typing import Any

import yaml

from zpipe.converters.result import Finding
from zpipe.problems import Problem, Refusal

ALLOWED = "a file with JSON or YAML"
MAX_REPAIRS = 20
MAX_BYTES = 16 * 2**20


def read(path: Path) -> tuple[dict[str, Any], list[Finding]]:
    """The mapping in a JSON or YAML file, and what is wrong with it; `ignored` if transformers takes it.

    Raises Refusal if the file is missing or not readable without guessing.
    """
    if not path.is_file():
        raise Refusal([Problem("import", str(path), "no such file", ALLOWED)])
    try:
        if path.stat().st_size > MAX_BYTES:
            raise Refusal([Problem("import", str(path), "too large for a configuration", ALLOWED)])
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise Refusal([Problem("import", str(path), f"cannot be read: {error}", ALLOWED)]) from None
    value, findings = _json(path, text) if _is_json(path, text) else (_yaml(path, text), [])
    if not isinstance(value, dict):
        raise Refusal([Problem("import", str(path), "not a mapping of keys to values", ALLOWED)])
    return {str(name): _with_text_keys(inner) for name, inner in value.items()}, findings


def _is_json(path: Path, text: str) -> bool:
    """YAML may start with a brace too, but reads the 5e8 of JSON as text."""
    if path.suffix not in (".yaml", ".yml"):
        return path.suffix == ".json" or text.lstrip()[:1] in ("{", "[")
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _with_text_keys(value: Any) -> Any:
    """Converts keys to text: YAML reads `1:` as a number and `on:` as a boolean."""
    if not isinstance(value, dict):
        return value
    return {str(name): _with_text_keys(inner) for name, inner in value.items()}


def _yaml(path: Path, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except (RecursionError, ValueError) as error:
        raise Refusal([_unreadable(path, error)]) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path.name}, line {mark.line + 1}, column {mark.column + 1}" if mark else path.name
        reason = str(getattr(error, "problem", None) or error)
        raise Refusal([Problem(place, "", f"not YAML: {reason}")]) from None


def _json(path: Path, text: str) -> tuple[Any, list[Finding]]:
    """Repairs missing and extra commas, so that all problems of the file are reported together."""
    findings: list[Finding] = []
    duplicates: list[str] = []
    while True:
        duplicates.clear()
        try:
            value = json.loads(text, object_pairs_hook=lambda pairs: _collect(pairs, duplicates))
        except (ValueError, RecursionError) as error:
            repaired = _repaired(text, error) if isinstance(error, json.JSONDecodeError) else None
            if repaired is None or len(findings) > MAX_REPAIRS:
                raise Refusal([each.problem for each in findings] + [_unreadable(path, error)]) from None
            text, position, reason = repaired
            findings.append(_repair(path, text, position, reason))
            continue
        return value, findings + [_duplicate(path, name) for name in duplicates]


def _collect(pairs: list[tuple[str, Any]], duplicates: list[str]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    duplicates += [name for name in dict.fromkeys(names) if names.count(name) > 1]
    return dict(pairs)


def _repaired(text: str, error: json.JSONDecodeError) -> tuple[str, int, str] | None:
    """The text with one comma added or removed, its position and the reason; None for other errors."""
    rest, head = text[error.pos :].lstrip(), text[: error.pos].rstrip()
    if error.msg == "Expecting ',' delimiter" and rest[:1] in ('"', "{", "[") and head[-1:] not in (",", ":"):
        return f"{head},{text[len(head) :]}", len(head), "missing comma after"
    if "trailing comma" in error.msg:  # from Python 3.13 on the position is that of the comma
        return text[: error.pos] + text[error.pos + 1 :], error.pos, "extra comma after the last entry"
    if rest[:1] in ("}", "]") and head.endswith(","):
        return head[:-1] + text[error.pos :], len(head) - 1, "extra comma after the last entry"
    return None


def _repair(path: Path, text: str, position: int, reason: str) -> Finding:
    head = text[:position]
    line, start = head.count("\n") + 1, head.rfind("\n") + 1
    place = f"{path.name}, line {line}, column {position - start + 1}"
    entry = text[start:position].strip().rstrip(",")
    if "missing" in reason:
        return Finding(Problem(place, "", f"{reason} {entry}", fix=f"{entry},"), "comma added")
    return Finding(Problem(place, "", reason, fix=entry), "comma removed")


def _duplicate(path: Path, name: str) -> Finding:
    reason = f"appears twice in one block of {path.name}: the last value is used, as in transformers"
    return Finding(Problem(name, "…", reason, ignored=True))


def _unreadable(path: Path, error: ValueError | RecursionError) -> Problem:
    if isinstance(error, RecursionError):
        return Problem(path.name, "", "nested too deeply")
    if not isinstance(error, json.JSONDecodeError):
        return Problem(path.name, "", f"cannot be read: {str(error).partition(';')[0]}")
    place = f"{path.name}, line {error.lineno}, column {error.colno}"
    line = error.doc.splitlines()[error.lineno - 1].strip() if error.doc.strip() else ""
    return Problem(place, line[:80], f"not JSON: {error.msg}", "plain JSON, without comments")
