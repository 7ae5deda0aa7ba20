"""The open sockets of the stand-in, so that closing it ends everything that waits on one."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Lock


class Sockets:
    """Open sockets; once closed, every one that comes is hung up at once."""

    def __init__(self) -> None:
        self.closing = Event()
        self._lock = Lock()
        self._open: set[socket.socket] = set()

    @contextmanager
    def holding(self, connection: socket.socket) -> Iterator[None]:
        """Keep a socket among the open ones for a while."""
        with self._lock:
            self._open.add(connection)
            if self.closing.is_set():
                hang_up(connection)
        try:
            yield
        finally:
            with self._lock:
                self._open.discard(connection)

    def close(self) -> None:
        """Hang up every socket, now and from now on."""
        with self._lock:
            self.closing.set()
            for connection in self._open:
                hang_up(connection)


def hang_up(connection: socket.socket) -> None:
    """End both directions; the socket's owner still closes it."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
