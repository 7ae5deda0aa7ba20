"""A TCP proxy on 127.0.0.1 that simulates network failures."""

import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from threading import Event, Lock, Thread
from typing import Final, Self

_CHUNK_BYTES: Final = 65_536
_RESET: Final = struct.pack("ii", 1, 0)  # close with RST, like a host that has crashed


class TcpProxy:
    """Leads to one address, for as long as a `with` block lasts.

    `refused`, `delayed` and `swallowed` count the connections, or the pieces of answers, that its
    faults have struck. `accepted` counts the connections.
    """

    def __init__(self, target: str) -> None:
        address, _, port = target.rpartition(":")
        self._target = address, int(port)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._server.getsockname()[1]}"
        self.refused = 0
        self.delayed = 0
        self.swallowed = 0
        self.accepted = 0
        self._lock = Lock()
        self._open: set[socket.socket] = set()
        self._dead: set[socket.socket] = set()
        self._threads: list[Thread] = []
        self._cut = False
        self._delay = 0.0
        self._swallowing = False
        self._flowing = Event()
        self._flowing.set()

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        self._flowing.set()
        self._server.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._server.close()

    def cut(self) -> None:
        """Shut down all connections, and every new one, until `heal`."""
        with self._lock:
            self._cut = True
        self._hang_up()

    def delay(self, seconds: float) -> None:
        """Delay each piece of an answer, until `heal`."""
        self._delay = seconds

    def freeze(self) -> None:
        """Keep all connections open, but let nothing through until `thaw`; nothing is lost."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Let through what `freeze` has held."""
        self._flowing.set()

    def swallow(self) -> None:
        """Let requests through, and lose their answers, until `heal`."""
        self._swallowing = True

    def kill_silently(self) -> None:
        """Keep the connections of this moment open, but let nothing through any more.

        New ones are not affected, as behind a NAT that has forgotten its connections.
        """
        with self._lock:
            self._dead |= self._open

    @property
    def open_connections(self) -> int:
        """How many connections clients currently hold open."""
        with self._lock:
            return (len(self._open) + 1) // 2

    def heal(self) -> None:
        """Clear all faults; connections that have lost data are shut down."""
        with self._lock:
            lossy = self._swallowing
            self._cut = self._swallowing = False
            self._delay = 0.0
        if lossy:
            self._hang_up()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:  # closing
                return
            with self._lock:
                refused = self._cut
                self.refused += refused
            if refused or not self._connect(client):
                _reset(client)

    def _connect(self, client: socket.socket) -> bool:
        try:
            server = socket.create_connection(self._target)
        except OSError:
            return False
        with self._lock:
            self._open |= {client, server}
            self.accepted += 1
        self._start(self._pump, client, server)
        self._start(self._pump, server, client, self._weaken)
        return True

    def _pump(
        self,
        source: socket.socket,
        sink: socket.socket,
        weaken: Callable[[bytes], bytes] = lambda data: data,
    ) -> None:
        with suppress(OSError):
            while data := source.recv(_CHUNK_BYTES):
                self._flowing.wait()
                if source not in self._dead:
                    sink.sendall(weaken(data))
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._open.discard(source)
        source.close()

    def _weaken(self, answer: bytes) -> bytes:
        if self._delay:
            self.delayed += 1
            time.sleep(self._delay)
        if self._swallowing:
            self.swallowed += 1
            return b""
        return answer

    def _hang_up(self) -> None:
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = Thread(target=target, args=arguments, name="tcp-proxy")
        self._threads.append(thread)
        thread.start()


def _reset(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    connection.close()
