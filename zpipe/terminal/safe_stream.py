"""Standard error without secrets: errors of any library may repeat a URL or an override."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO


class _WithoutSecrets:
    """A text stream that redacts what is written to it; in all else the stream itself."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        from zpipe.redact import redact

        self._stream.write(redact(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def open_closed_streams() -> None:
    """Opens standard streams that the caller closed (`>&-`), so that no file of a run takes their place."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest free number: this one
            if getattr(sys, name) is None:
                setattr(sys, name, os.fdopen(opened, "r" if number == 0 else "w", encoding="utf-8"))


@contextmanager
def errors_without_secrets() -> Iterator[None]:
    """Redacts standard error inside the block."""
    stream = sys.stderr
    sys.stderr = _WithoutSecrets(stream)
    try:
        yield
    finally:
        sys.stderr = stream
