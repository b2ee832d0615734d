"""Lines without secrets, where a secret may have several lines: a private key in PEM's form."""

import re
from collections.abc import Iterable, Iterator

from zpipe.redact import HIDDEN, redact

_BEGIN = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?!.*-----END )")
_END = re.compile(r"-----END [A-Z ]*PRIVATE KEY-----")
_MOST_LINES = 300
"""Of a key; a key of 16,384 bits has 200 lines."""


def redact_lines(lines: Iterable[str]) -> Iterator[str]:
    """A line for each line. Between the first and the last line of a private key, nothing is shown."""
    hidden = 0
    for line in lines:
        if hidden and _END.search(line) is None:
            hidden -= 1
            yield HIDDEN + line[len(line.rstrip("\r\n")) :]
            continue
        hidden = _MOST_LINES if _BEGIN.search(line) else 0
        yield redact(line)
