"""Whether machines reach each other, and on which network interface."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

REACH_SECONDS = 10.0


def interface_towards(host: str, port: int) -> str | None:
    """Its name, such as eth0; None if the host has no address that this machine can reach. Sends nothing."""
    import psutil  # planning needs no network

    try:
        (family, kind, protocol, _, address), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(address)
            own = probe.getsockname()[0]
    except OSError:
        return None
    named = ((name, each.address) for name, found in psutil.net_if_addrs().items() for each in found)
    return next((name for name, found in named if found.partition("%")[0] == own), None)


@contextmanager
def listening(host: str, port: int) -> Iterator[None]:
    """Accepts connections to this address of this machine inside the block. Raises OSError."""
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
        connection.close()


def reach(host: str, port: int) -> None:
    """Connects once. Raises OSError that says why it cannot."""
    with socket.create_connection((host, port), timeout=REACH_SECONDS):
        return
