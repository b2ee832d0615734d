"""Ends this process when its zpipe parent has ended: nothing would follow or record the run anymore."""

import os
import signal
import threading
import time

from zpipe.machine.process_identity import is_alive, place

POLL_SECONDS = 1.0


def exit_with_parent() -> None:
    """Watches the process in ZPIPE_PARENT (zpipe.machine.process_identity) from a thread, if it runs here.

    On another node, or in another container, its pid means nothing.
    """
    parent = os.environ.get("ZPIPE_PARENT")
    if parent and os.environ.get("ZPIPE_PARENT_PLACE", place()) == place():
        threading.Thread(target=_watch, args=(parent,), name="zpipe-parent", daemon=True).start()


def _watch(parent: str) -> None:
    while is_alive(parent):
        time.sleep(POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)
