"""A file → its mapping, with line and column of whatever cannot be read."""

import json
from pathlib import Path
from typing import Any

import yaml

from zpipe.converters.result import Finding
from zpipe.problems import Problem, Refusal

SUFFIXES = (".json", ".yaml", ".yml")


def read(path: Path) -> tuple[dict[str, Any], list[Finding]]:
    """The mapping in a JSON or YAML file, and what had to be repaired to read it.

    Raises Refusal for what is no such file or cannot be read for certain.
    """
    allowed = f"a {', '.join(SUFFIXES)} file"
    if not path.is_file():
        raise Refusal([Problem("import", str(path), "no such file", allowed)])
    if path.suffix not in SUFFIXES:
        raise Refusal([Problem("import", str(path), "unknown kind of file", allowed)])
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Refusal([Problem("import", str(path), f"cannot be read: {error}", allowed)]) from None
    value, findings = _json(path, text) if path.suffix == ".json" else (_yaml(path, text), [])
    if not isinstance(value, dict):
        raise Refusal([Problem("import", str(path), "holds no mapping of keys to values", allowed)])
    return {str(name): _with_names(inner) for name, inner in value.items()}, findings


def _with_names(value: Any) -> Any:
    """The same with texts for names: YAML reads `1:` and `on:` otherwise."""
    return (
        {str(name): _with_names(inner) for name, inner in value.items()} if isinstance(value, dict) else value
    )


def _yaml(path: Path, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path.name}, line {mark.line + 1}, column {mark.column + 1}" if mark else path.name
        reason = str(getattr(error, "problem", None) or error)
        raise Refusal([Problem(place, "", f"not YAML: {reason}")]) from None


def _json(path: Path, text: str) -> tuple[Any, list[Finding]]:
    """Reads on behind commas that are missing or too many, so that all problems are found at once."""
    findings: list[Finding] = []
    twice: list[str] = []
    while True:
        twice.clear()
        try:
            value = json.loads(text, object_pairs_hook=lambda pairs: _without_twins(pairs, twice))
        except (json.JSONDecodeError, RecursionError) as error:
            repaired = _repaired(text, error) if isinstance(error, json.JSONDecodeError) else None
            if repaired is None or len(findings) > 20:
                raise Refusal([each.problem for each in findings] + [_unreadable(path, error)]) from None
            text, where, reason = repaired
            findings.append(_repair(path, text, where, reason))
            continue
        return value, findings + [_twin(path, name) for name in twice]


def _without_twins(pairs: list[tuple[str, Any]], twice: list[str]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    twice += [name for name in dict.fromkeys(names) if names.count(name) > 1]
    return dict(pairs)


def _repaired(text: str, error: json.JSONDecodeError) -> tuple[str, int, str] | None:
    """The text with one comma more or less, the position and what was wrong; null for anything else."""
    rest, head = text[error.pos :].lstrip(), text[: error.pos].rstrip()
    if error.msg == "Expecting ',' delimiter" and rest[:1] in ('"', "{", "[") and head[-1:] not in (",", ":"):
        return f"{head},{text[len(head) :]}", len(head), "a comma is missing behind"
    if "trailing comma" in error.msg:  # from Python 3.13 on the position is that of the comma
        return text[: error.pos] + text[error.pos + 1 :], error.pos, "the comma behind the last entry"
    if rest[:1] in ("}", "]") and head.endswith(","):
        return head[:-1] + text[error.pos :], len(head) - 1, "the comma behind the last entry"
    return None


def _repair(path: Path, text: str, position: int, reason: str) -> Finding:
    head = text[:position]
    line, start = head.count("\n") + 1, head.rfind("\n") + 1
    place = f"{path.name}, line {line}, column {position - start + 1}"
    shown = text[start:position].strip().rstrip(",")
    if "missing" in reason:
        return Finding(
            Problem(place, "", f"{reason} {shown}", fix=f"{shown},"), "read as if the comma were there"
        )
    return Finding(
        Problem(place, "", f"{reason} has to go", fix=shown), "read as if the comma were not there"
    )


def _twin(path: Path, name: str) -> Finding:
    problem = Problem(name, "…", f"stands twice in one block of {path.name}, which DeepSpeed refuses")
    return Finding(problem, "the last one counts, as it does to transformers")


def _unreadable(path: Path, error: json.JSONDecodeError | RecursionError) -> Problem:
    if isinstance(error, RecursionError):
        return Problem(path.name, "", "not JSON: nested too deeply")
    place = f"{path.name}, line {error.lineno}, column {error.colno}"
    line = error.doc.splitlines()[error.lineno - 1].strip() if error.doc.strip() else ""
    return Problem(place, line[:80], f"not JSON: {error.msg}", "plain JSON, without comments")
