"""`python -m bench.latency HOST SECONDS`: a proxy that delays each piece that long, each way.

It prints its address, and is a separate process so that it shares no GIL with what it serves.
"""

import asyncio
import subprocess
import sys
from asyncio import StreamReader, StreamWriter
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def far_away(host: str, seconds: float) -> Iterator[str]:
    """Yield an address that leads to a host, this many seconds away in each direction."""
    command = [sys.executable, "-m", "bench.latency", host, str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout  # noqa: S101 - a pipe was requested
        try:
            address = process.stdout.readline().strip()
            if not address:
                raise RuntimeError("The proxy that holds answers back did not start.")
            yield address
        finally:
            process.terminate()


async def _serve(host: str, seconds: float) -> None:
    address, _, port = host.rpartition(":")

    async def pump(reader: StreamReader, writer: StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while chunk := await reader.read(65_536):
            loop.call_later(seconds, writer.write, chunk)
        loop.call_later(seconds, writer.close)

    async def connect(reader: StreamReader, writer: StreamWriter) -> None:
        inside = await asyncio.open_connection(address, int(port))
        await asyncio.gather(pump(reader, inside[1]), pump(inside[0], writer))

    server = await asyncio.start_server(connect, "127.0.0.1", 0)
    print("127.0.0.1:{1}".format(*server.sockets[0].getsockname()), flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], float(sys.argv[2])))
