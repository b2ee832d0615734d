"""Text is UTF-8 whatever the locale: every read and write names its encoding."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.support.process import REPOSITORY

FOLDERS = ("zpipe", "docs", "benchmarks")
NOT_FILES = ("os", "tarfile", "zipfile", "session", "self", "_sweep_run")
"""Names before `.open` that are modules or objects with an `open` of their own."""


def test_every_text_file_is_opened_with_its_encoding() -> None:
    files = [file for folder in FOLDERS for file in sorted((REPOSITORY / folder).rglob("*.py"))]
    found = [(file, call) for file in files for call in _calls(file) if _depends_on_the_locale(call)]
    assert [f"{file}:{call.lineno}: {ast.unparse(call)}" for file, call in found] == []


def _calls(file: Path) -> Iterator[ast.Call]:
    nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    return (node for node in nodes if isinstance(node, ast.Call))


def _depends_on_the_locale(call: ast.Call) -> bool:
    keywords = {keyword.arg for keyword in call.keywords}
    match call.func:
        case ast.Attribute(value=ast.Name(id=owner) | ast.Call(func=ast.Name(id=owner)), attr="open") if (
            owner in NOT_FILES
        ):
            return False
        case ast.Attribute(attr="read_text" | "write_text" as name):
            positional = 1 if name == "read_text" else 2
            return "encoding" not in keywords and len(call.args) < positional
        case ast.Attribute(attr="open") | ast.Name(id="open") | ast.Attribute(attr="fdopen"):
            return "encoding" not in keywords and not _is_binary(call)
        case ast.Attribute(attr="run" | "Popen" | "check_output"):
            return "encoding" not in keywords and "text" in keywords
    return False


def _is_binary(call: ast.Call) -> bool:
    modes = [*call.args, *(keyword.value for keyword in call.keywords if keyword.arg == "mode")]
    return any(isinstance(mode, ast.Constant) and "b" in str(mode.value) for mode in modes)
