"""Summaries as HTML for notebooks. Every text is escaped: none becomes markup."""

from collections.abc import Iterable
from html import escape

from zpipe.terminal.console import clean

_TITLE = "text-align: left; vertical-align: top; font-weight: normal; opacity: 0.7"
_TEXT = "text-align: left; white-space: pre-wrap; overflow-wrap: anywhere"


def html_table(rows: Iterable[tuple[str, str]]) -> str:
    """Titles and texts in two columns."""
    lines = "".join(_row(title, text) for title, text in rows)
    return f"<div><table>{lines}</table></div>"


def _row(title: str, text: str) -> str:
    cells = f'<th style="{_TITLE}">{escape(clean(title))}</th><td style="{_TEXT}">{escape(clean(text))}</td>'
    return f"<tr>{cells}</tr>"


def html_details(title: str, text: str) -> str:
    """A text that is folded away under its title."""
    return f"<details><summary>{escape(clean(title))}</summary><pre>{escape(clean(text))}</pre></details>"
