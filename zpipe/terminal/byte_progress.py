"""The progress of reading many bytes: a bar on stderr, where that is a terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO


@contextmanager
def byte_progress(
    title: str, total: int, stream: TextIO | None = None
) -> Iterator[Callable[[int], None] | None]:
    """Yields what is to be told how many more bytes were read; None where nobody watches."""
    out = stream or sys.stderr
    if not total or not out.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True))
    with Progress(*columns, TimeRemainingColumn(), console=Console(file=out), transient=True) as progress:
        task = progress.add_task(title, total=total)
        yield lambda count: progress.advance(task, count)
