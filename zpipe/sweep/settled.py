"""Finds settled points in the ledger of a sweep, which is read once however many points are asked for."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

from zpipe.runfolder.foreign_files import MOST_LINE_BYTES, open_regular
from zpipe.sweep import ledger
from zpipe.sweep.ledger import Attempt


class SettledPoints:
    """The attempts in one ledger by their point. Each question reads only the lines that are new."""

    def __init__(self, sweep_dir: Path) -> None:
        self._file = sweep_dir / ledger.FILE_NAME
        self._offset = 0
        self._points: dict[frozenset[str], dict[str, Attempt]] = {}

    def before(self, overrides: Iterable[str], session: int) -> Attempt | None:
        """A settled attempt at this point from an earlier session, the first by its folder, or None."""
        self._read_new()
        attempts = self._points.get(ledger.identity(overrides), {}).values()
        settled = (each for each in attempts if each.session < session and each.is_settled)
        return min(settled, key=ledger.order, default=None)

    def _read_new(self) -> None:
        try:
            file = open_regular(self._file)
        except OSError:
            return
        with file:
            file.seek(self._offset)
            for line in iter(partial(file.readline, MOST_LINE_BYTES), b""):
                if not line.endswith(b"\n"):
                    return
                self._offset += len(line)
                attempt = ledger.decode(line)
                if attempt is not None:
                    self._points.setdefault(attempt.point, {})[attempt.folder] = attempt


_known: dict[Path, SettledPoints] = {}


def settled_before(sweep_dir: Path, overrides: Iterable[str], session: int) -> Attempt | None:
    """A settled attempt at this point from an earlier session, or None."""
    return _known.setdefault(sweep_dir, SettledPoints(sweep_dir)).before(overrides, session)
