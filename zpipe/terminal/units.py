"""Sizes, durations and numbers as they are printed.

Sizes come from humanize. Its durations spell every unit out ("3 minutes and 5 seconds"), which is too long
for the live line, and its numbers have no fixed count of significant digits.
"""

import math
from typing import Any

from humanize import naturalsize


def size(count: Any, digits: int = 1) -> str:
    """Bytes in binary units, e.g. 2.0 KiB; anything but a positive number of bytes is an unknown size."""
    known = isinstance(count, int) and count > 0
    return naturalsize(count, binary=True, format=f"%.{digits}f") if known else "size unknown"


def duration(seconds: float) -> str:
    """Seconds with at most two units: 42 s, 3 min 5 s, 2 h 10 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        minutes, rest = divmod(whole, 60)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, rest = divmod(whole, 3600)
    return f"{hours} h {rest // 60} min"


def number(value: Any) -> str:
    """A number of any size: integers in full, others with four significant digits or decimals."""
    if value is None:
        return "?"
    given = float(value)
    if math.isfinite(given) and given == int(given) and abs(given) < 1e15:
        return f"{int(given)}"
    return f"{given:.4g}" if abs(given) < 1e-3 or abs(given) >= 1e4 else f"{given:.4f}"


def as_written(value: str) -> str:
    """The value of a setting as a person writes it: Hydra turns 5e7 into 50000000.0."""
    try:
        given = float(value)
    except ValueError:
        return value
    if not math.isfinite(given) or given != int(given):
        return value
    digits = str(int(given)).rstrip("0")
    if abs(given) < 1e5 or len(digits) > 2:
        return str(int(given))
    mantissa, _, exponent = f"{given:e}".partition("e")
    return f"{float(mantissa):g}e{int(exponent)}"
