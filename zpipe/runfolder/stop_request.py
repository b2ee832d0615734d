"""Asks the workers to save a checkpoint and to stop: a file in the attempt's folder, with the reason."""

from zpipe.runfolder.folder import Attempt

_MOST_CHARACTERS = 200


def request_stop(attempt: Attempt, reason: str) -> None:
    """Asks all ranks to save and to stop. The first reason counts. Raises OSError on a full disk."""
    try:
        with attempt.stop_request.open("x", encoding="utf-8") as file:
            file.write(reason)
    except FileExistsError:
        return


def stop_reason(attempt: Attempt) -> str | None:
    """Why somebody asked for a stop; None if nobody did."""
    try:
        return attempt.stop_request.read_text(encoding="utf-8", errors="replace")[:_MOST_CHARACTERS] or None
    except OSError:
        return None
