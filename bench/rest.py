"""Single events, or JSON batches, over REST: throughput and latency.

`python -m bench.rest --target HOST:PORT --seconds 15 --connections 32` prints one JSON object; `--size 500` sends
batches of so many events. Connections are kept alive and each has one request in flight; the client writes bytes that
are prepared beforehand, so that it costs little.
"""

import argparse
import asyncio
import json
import random
import time
from collections.abc import Iterator
from itertools import cycle

import uvloop

from bench.lines import json_batches

BODY = b'{"service":"payment-service","level":"INFO","message":"Payment accepted","statusCode":200,"responseTime":12.5}'


def request(path: str, body: bytes) -> bytes:
    """Return a whole HTTP request."""
    head = (
        f"POST {path} HTTP/1.1\r\nhost: tocsin\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def requests(size: int) -> list[bytes]:
    """Return requests of `size` events each: one of a single event, or batches of the lines that gRPC sends."""
    if size == 1:
        return [request("/api/logs", BODY)]
    return [request("/api/logs/batch", body) for body in json_batches(size)]


async def connection(
    address: tuple[str, int],
    until: float,
    pause: float,
    bodies: Iterator[bytes],
    latencies: list[float],
    failures: list[str],
) -> None:
    """Run one client: a request, its response, the next request; one is due each `pause` seconds, a late one at once.

    The latency of a late request counts from when it was due, so that delays of a slow server are counted.
    """
    reader, writer = await asyncio.open_connection(*address)
    due = time.monotonic() + pause * random.random()  # noqa: S311 - nothing secret
    try:
        while time.monotonic() < until:
            if pause:
                await asyncio.sleep(max(0.0, due - time.monotonic()))
            began = due if pause else time.monotonic()
            due += pause
            writer.write(next(bodies))
            head = await reader.readuntil(b"\r\n\r\n")
            await _body(reader, head)
            if head.startswith(b"HTTP/1.1 200"):
                latencies.append((time.monotonic() - began) * 1000)
            else:
                failures.append(head.split(b"\r\n", 1)[0].decode())
    finally:
        writer.close()


async def _body(reader: asyncio.StreamReader, head: bytes) -> bytes:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return await reader.readexactly(int(line.split(b":")[1]))
    if b"transfer-encoding: chunked" in head.lower():
        return await reader.readuntil(b"0\r\n\r\n")
    return b""


async def run(
    host: str, port: int, *, seconds: float, connections: int, rate: float | None, size: int = 1
) -> dict[str, object]:
    """Run all clients at once and return the figures."""
    latencies: list[float] = []
    failures: list[str] = []
    started = time.monotonic()
    pause = connections / rate if rate else 0.0
    bodies, until = cycle(requests(size)), started + seconds
    clients = [connection((host, port), until, pause, bodies, latencies, failures) for _ in range(connections)]
    await asyncio.gather(*clients)
    latencies.sort()
    return {
        "per_second": len(latencies) / (time.monotonic() - started),
        "p50_ms": latencies[len(latencies) // 2],
        "p99_ms": latencies[int(len(latencies) * 0.99)],
        "failures": {status: failures.count(status) for status in set(failures)},
    }


def main() -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", required=True)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--size", type=int, default=1, help="events in a request")
    parser.add_argument("--rate", type=float, help="requests per second; default: as fast as possible")
    given = parser.parse_args()
    host, port = given.target.rsplit(":", 1)
    figures = run(
        host, int(port), seconds=given.seconds, connections=given.connections, rate=given.rate, size=given.size
    )
    print(json.dumps(uvloop.run(figures)))


if __name__ == "__main__":
    main()
