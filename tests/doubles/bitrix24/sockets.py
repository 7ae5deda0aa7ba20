"""The stand-in's open sockets, so that closing it ends everything that waits on one."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Lock


class Sockets:
    """Open sockets; once closed, each new one is shut down immediately."""

    def __init__(self) -> None:
        self.closing = Event()
        self._lock = Lock()
        self._open: set[socket.socket] = set()

    @contextmanager
    def holding(self, connection: socket.socket) -> Iterator[None]:
        """Track a socket for the duration of a block."""
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
        """Shut down every socket, now and from now on."""
        with self._lock:
            self.closing.set()
            for connection in self._open:
                hang_up(connection)


def hang_up(connection: socket.socket) -> None:
    """Shut down both directions; the socket's owner still closes it."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
