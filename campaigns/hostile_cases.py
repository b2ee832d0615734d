"""Builds the cases of the hostile campaign from the YAML files in hostile/.

`{work}` in a case is the folder in which it runs, `{outside}` a folder that must not change, `{sink}` the
address of a server that must receive no credentials.
"""

import base64
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

DATA = Path(__file__).parent / "hostile"


@dataclass(frozen=True)
class Case:
    """One command line in a copy of a prepared folder, with some of its files replaced."""

    name: str
    argv: tuple[str, ...]
    base: str = ""
    """Which prepared folder the case works on a copy of; empty for an empty folder."""
    files: tuple[tuple[str, Any], ...] = ()
    """Path below the work folder, and its shape (see `put`)."""


def all_cases() -> list[Case]:
    shapes = _read("shapes.yaml")
    cases = []
    for file in sorted(DATA.glob("*.yaml")):
        if file.name != "shapes.yaml":
            cases += list(_cases_of(file.stem, _read(file.name), shapes))
    return cases


def _read(name: str) -> Any:
    return yaml.safe_load((DATA / name).read_text(encoding="utf-8"))


def _cases_of(stem: str, groups: list[dict[str, Any]], shapes: dict[str, Any]) -> Iterator[Case]:
    for group in groups:
        for index, argv in enumerate(group["commands"]):
            for label, extra, files in _variants(group, shapes):
                name = f"{stem}/{group['name']}/{index} {label}"
                yield Case(name, (*map(str, argv), *extra), group.get("base", ""), files)


def _variants(
    group: dict[str, Any], shapes: dict[str, Any]
) -> Iterator[tuple[str, tuple[str, ...], tuple[tuple[str, Any], ...]]]:
    """Label, further arguments and files of each case of a group."""
    for number, payload in enumerate(group.get("payloads", [])):
        arguments = payload if isinstance(payload, list) else [payload]
        yield str(number), tuple(map(str, arguments)), tuple(group.get("files", {}).items())
    for number, content in enumerate(group.get("contents", [])):
        yield str(number), (), ((group["file"], content),)
    for path in group.get("damaged", []):
        for label in group.get("shapes", shapes):
            yield f"{path} {label}", (), ((path, shapes[label]),)
    for path, field in group.get("fields", []):
        for number, value in enumerate(group["values"]):
            yield f"{path}:{field} {number}", (), ((path, {"field": field, "value": value}),)


def put(path: Path, shape: Any, words: dict[str, str]) -> None:
    """Gives a file its hostile shape: text, or one of the forms below.

    {base64: …}, {repeat: text, times: n, before: text, after: text}, {link: target}, {fifo: true},
    {folder: true}, {field: dotted.key, value: …} of a JSON file, {lines: n, text: …}.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(shape, dict) and "field" in shape:
        _set_field(path, shape["field"], _filled(shape["value"], words))
        return
    if path.is_symlink() or path.exists():
        path.unlink() if not path.is_dir() else path.rename(path.with_name(f"{path.name}.moved"))
    if not isinstance(shape, dict):
        path.write_text(_filled(str(shape), words), encoding="utf-8")
    elif "link" in shape:
        path.symlink_to(_filled(shape["link"], words))
    elif "fifo" in shape:
        os.mkfifo(path)
    elif "folder" in shape:
        path.mkdir()
    elif "base64" in shape:
        path.write_bytes(base64.b64decode(shape["base64"]))
    else:
        repeated = shape["repeat"] * shape["times"]
        path.write_text(shape.get("before", "") + repeated + shape.get("after", ""), encoding="utf-8")


def _set_field(path: Path, field: str, value: Any) -> None:
    """Sets the field in a JSON file, or in every line of JSON lines; removes it for the value `absent`."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".jsonl":
        path.write_text(
            "".join(json.dumps(_changed(line, field, value)) + "\n" for line in text.splitlines())
        )
    else:
        path.write_text(json.dumps(_changed(text, field, value)))


def _changed(text: str, field: str, value: Any) -> Any:
    tree = json.loads(text)
    *parents, last = field.split(".")
    node = tree
    for parent in parents:
        node = node.setdefault(parent, {})
    if value == "absent":
        node.pop(last, None)
    else:
        node[last] = value
    return tree


def _filled(value: Any, words: dict[str, str]) -> Any:
    """The value with {work}, {outside} and {sink} replaced in each text."""
    if isinstance(value, str):
        for word, meant in words.items():
            value = value.replace("{" + word + "}", meant)
        return value
    if isinstance(value, list):
        return [_filled(each, words) for each in value]
    if isinstance(value, dict):
        return {key: _filled(each, words) for key, each in value.items()}
    return value


def filled_argv(case: Case, words: dict[str, str]) -> list[str]:
    return [str(_filled(each, words)) for each in case.argv]
