"""Adds what was measured to the file in the user's cache."""

from collections.abc import Sequence

from zpipe.problems import Refusal
from zpipe.runfolder.atomic import write_json
from zpipe.runfolder.lock import held
from zpipe.search.measured import Measurement, Measurements, measurements_file, merged, read_measurements
from zpipe.terminal.console import say

LOCK_SECONDS = 10.0


def remember(new: Sequence[Measurement]) -> None:
    """A file that cannot be read or written is left as it is: that costs the measurements, not the run."""
    file = measurements_file()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with held(file.with_name(f".{file.name}.lock"), LOCK_SECONDS) as is_held:
            if is_held:
                kept = Measurements(measurements=merged(read_measurements().measurements, new))
                write_json(file, kept.model_dump(mode="json"))
            else:
                _warn(f"another process has held the lock of the file for {LOCK_SECONDS:.0f} s")
    except Refusal as refusal:
        _warn(refusal.problems[0].reason)
    except OSError as error:
        _warn(str(error.strerror))


def _warn(why: str) -> None:
    say(f"warning: the measurements are not kept: {measurements_file()}: {why}")
