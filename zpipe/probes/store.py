"""Adds what was measured to the file in the user's cache."""

from collections.abc import Sequence

from zpipe.problems import Refusal
from zpipe.runfolder.atomic import write_json
from zpipe.runfolder.lock import held
from zpipe.search.measured import Measurement, Measurements, measurements_file, merged, read_measurements
from zpipe.terminal.console import say

LOCK_SECONDS = 10.0


def remember(new: Sequence[Measurement]) -> None:
    """Replaces a damaged file. A cache that cannot be written costs the measurements alone, not the run."""
    file = measurements_file()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with held(file.with_name(f".{file.name}.lock"), LOCK_SECONDS):
            kept = Measurements(measurements=merged(_known(), new))
            write_json(file, kept.model_dump(mode="json"))
    except OSError as error:
        say(f"warning: the measurements are not kept: {file}: {error.strerror}")


def _known() -> list[Measurement]:
    try:
        return read_measurements().measurements
    except Refusal:
        return []
