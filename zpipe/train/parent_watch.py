"""Ends this process when the zpipe process that started it is gone and can no longer record it."""

import os
import signal
import threading
import time

import psutil

POLL_SECONDS = 1.0


def exit_with_parent() -> None:
    """Watches the process in ZPIPE_PARENT (pid:creation time) from a thread; does nothing if unset."""
    pid, _, created = os.environ.get("ZPIPE_PARENT", "").partition(":")
    if pid:
        watch = threading.Thread(
            target=_watch, args=(int(pid), float(created)), name="zpipe-parent", daemon=True
        )
        watch.start()


def _watch(pid: int, created: float) -> None:
    while _is_alive(pid, created):
        time.sleep(POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


def _is_alive(pid: int, created: float) -> bool:
    try:
        process = psutil.Process(pid)
        return process.create_time() == created and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
