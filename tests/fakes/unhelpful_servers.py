"""Servers that answer as none should: with nonsense, slowly, or without end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


@asynccontextmanager
async def unhelpful_server(reply: bytes | None) -> AsyncIterator[int]:
    """Answers whatever comes with these bytes and hangs up, or with nothing at all, for ever."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if reply is None:
            await reader.read(-1)
        else:
            writer.write(reply)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()


@asynccontextmanager
async def counting_server(reply: bytes) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Answer each connection's first bytes with the reply; the list has what came."""
    came: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append(await reader.read(65536))
        writer.write(reply)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield int(server.sockets[0].getsockname()[1]), came
    finally:
        server.close()


@asynccontextmanager
async def dripping_server(drip: bytes) -> AsyncIterator[int]:
    """Send this every few milliseconds, until the client has left."""
    serving: set[asyncio.Task[None]] = set()

    async def drips(writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError):
                while not writer.is_closing():
                    writer.write(drip)
                    await writer.drain()
                    await asyncio.sleep(0.01)  # the pace of the server, and no wait for the tested code
        finally:
            writer.close()

    def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.ensure_future(drips(writer)))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


@asynccontextmanager
async def endless_server(answer: tuple[bytes, bytes]) -> AsyncIterator[tuple[int, asyncio.Future[int]]]:
    """Answer without end; the future has how many bytes were sent until the connection was closed."""
    sent: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begin, rest = answer
        if begin.startswith(b"HTTP"):
            await reader.readuntil(b"\r\n\r\n")
        size = 0
        with suppress(OSError):
            writer.write(begin)
            while True:
                writer.write(rest)
                await writer.drain()
                size += len(rest)
        writer.close()
        sent.set_result(size)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield int(server.sockets[0].getsockname()[1]), sent
    finally:
        server.close()
