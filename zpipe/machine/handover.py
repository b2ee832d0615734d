"""Hands the environment of the ranks over on one machine, to processes of the same user and nobody else.

DeepSpeed's runner would write variables into command lines, which everybody can read. Here a socket in the
abstract namespace (unix(7)) passes them on: there is no file, and it is gone with the process that serves it.
Both sides ask the kernel for the user of the other. It needs the standard library alone, so that ranks start
quickly.
"""

import json
import os
import socket
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass

CONNECT_SECONDS = 10.0
_CREDENTIALS = struct.Struct("3i")
"""pid, uid, gid."""
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Handover:
    """What a rank gets."""

    environment: Mapping[str, str]
    folder: str
    """The working folder of zpipe, from which relative paths start."""


@contextmanager
def served(name: str, handover: Handover) -> Iterator[None]:
    """Answers everybody of this user inside the block. Raises OSError if somebody else has the name."""
    content = json.dumps({"environment": dict(handover.environment), "folder": handover.folder}).encode()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(_address(name))
        listener.listen(128)
        thread = threading.Thread(target=_serve, args=(listener, content), name="zpipe-handover", daemon=True)
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def received(name: str) -> Handover:
    """Raises OSError if nobody of this user serves the name."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(CONNECT_SECONDS)
        connection.connect(_address(name))
        if _user_of(connection) != os.getuid():
            raise PermissionError(f"another user serves {name}")
        content = b"".join(iter(lambda: connection.recv(_CHUNK), b""))
    given = json.loads(content)
    return Handover(given["environment"], given["folder"])


def _serve(listener: socket.socket, content: bytes) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:  # the block has ended
            return
        with connection, suppress(OSError):
            connection.settimeout(CONNECT_SECONDS)
            if _user_of(connection) == os.getuid():
                connection.sendall(content)


def _user_of(connection: socket.socket) -> int:
    packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(packed)[1])


def _address(name: str) -> str:
    return f"\0zpipe-{name}"
