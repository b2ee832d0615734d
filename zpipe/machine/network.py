"""Whether machines reach each other, on which network interface, and whether their clocks agree."""

import math
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

REACH_SECONDS = 10.0
_TIME_BYTES = 64
"""More than a time takes as text."""


def address_towards(host: str, port: int) -> str | None:
    """That of this machine; None if the host has no address that it can reach. Sends nothing."""
    try:
        (family, kind, protocol, _, address), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(address)
            return str(probe.getsockname()[0])
    except OSError:
        return None


def interface_with(address: str) -> str | None:
    """The name of the interface of this machine that has the address, such as eth0."""
    import psutil  # planning needs no network

    named = ((name, each.address) for name, found in psutil.net_if_addrs().items() for each in found)
    return next((name for name, found in named if found.partition("%")[0] == address), None)


@contextmanager
def listening(host: str, port: int) -> Iterator[None]:
    """Tells the time of this machine to whoever connects to this address of it. Raises OSError."""
    (family, kind, protocol, _, address), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    with socket.socket(family, kind, protocol) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
        thread = threading.Thread(target=_answer, args=(listener,), name="zpipe-answer", daemon=True)
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)  # ends the thread's accept
            thread.join()


def _answer(listener: socket.socket) -> None:
    """Takes every connection, or else the kernel would drop those after the first hundred."""
    while True:
        try:
            connection, _ = listener.accept()
        except ConnectionAbortedError:  # the other side has left already
            continue
        except OSError:
            return
        with connection, suppress(OSError):
            connection.sendall(f"{time.time():.6f}\n".encode())


def reach(host: str, port: int) -> float | None:
    """Connects once, and returns how many seconds the clock there is ahead of this one's.

    The error is at most the time of the round trip. None if what answers there tells no time. Raises OSError
    that says why it cannot connect.
    """
    before = time.time()
    with socket.create_connection((host, port), timeout=REACH_SECONDS) as connection:
        connection.settimeout(REACH_SECONDS)
        try:
            told = float(connection.makefile("rb").readline(_TIME_BYTES))
        except (ValueError, OSError):
            return None
        return told - (before + time.time()) / 2 if math.isfinite(told) else None
