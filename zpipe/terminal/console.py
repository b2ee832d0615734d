"""Printing to the terminal: tables, texts and problems, without markup and without control characters."""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console

    from zpipe.problems import Problem

_WIDTH_WITHOUT_TERMINAL = 200


def console(stream: TextIO | None) -> "Console":
    """A console that treats no text as markup, and does not wrap tables in a pipe, which has no width.

    In a notebook it writes to the stream too, where rich would add a display of its own.
    """
    from rich.console import Console

    out = stream or sys.stdout
    width = None if out.isatty() else _WIDTH_WITHOUT_TERMINAL
    return Console(file=out, width=width, markup=False, highlight=False, emoji=False, force_jupyter=False)


def print_text(out: "Console", text: str, style: str | None = None) -> None:
    from rich.text import Text

    out.print(Text(clean(text), style=style or ""), soft_wrap=True)


def show(text: str, stream: TextIO | None = None, end: str = "\n") -> None:
    """Prints a text that may contain a name of the user's, at once."""
    print(clean(text), file=stream or sys.stdout, end=end, flush=True)


def say(text: str) -> None:
    """A line on stderr: a warning, or progress of work that takes a while. Lost if nobody can read it."""
    with tolerant(sys.stderr):
        print(clean(text), file=sys.stderr, flush=True)


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], title: str = "", stream: TextIO | None = None
) -> None:
    """Aligned columns without rules; long cells are folded, never cut."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", style=None, header_style="dim")
    for row in rows:
        table.add_row(*(Text(clean(cell)) for cell in row))
    out = console(stream)
    if title:
        print_text(out, f"\n{title}", style="bold")
    out.print(table)


def print_problems(problems: Iterable["Problem"], title: str = "", stream: TextIO | None = None) -> None:
    """A numbered list on stderr."""
    out = stream or sys.stderr
    listed = list(problems)
    heading = title or f"Refused: {len(listed)} problem{'' if len(listed) == 1 else 's'} in the input"
    print(f"{heading}\n", file=out)
    for index, problem in enumerate(listed, start=1):
        mark = f"{index:>3}. "
        lines = clean(str(without_secrets(problem))).splitlines()
        print(mark + f"\n{' ' * len(mark)}".join(lines), file=out)
    out.flush()


def without_secrets(problem: "Problem") -> "Problem":
    """The problem with `***` instead of a secret that was typed, wherever it is repeated."""
    from zpipe.redact import redact_override, redact_tree

    safe = redact_tree(problem.value, problem.key)
    texts = {name: getattr(problem, name) for name in ("reason", "allowed", "fix")}
    if safe != problem.value:
        texts = {name: text.replace(str(problem.value), str(safe)) for name, text in texts.items()}
    return problem._replace(key=redact_override(problem.key), value=safe, **texts)


@contextmanager
def tolerant(stream: TextIO) -> Iterator[None]:
    """Lets a run continue when its output is closed (`| head`) or the disk of its output is full.

    Later output, and what is still in the stream's buffer, is discarded.
    """
    try:
        yield
    except OSError:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())


def clean(text: str) -> str:
    """The text without control characters, which could rewrite what the terminal shows."""
    return "".join(each if each.isprintable() or each == "\n" else " " for each in text)
