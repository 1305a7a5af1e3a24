"""Load over gRPC: batches of events, as fast as they are accepted or at a given rate.

`python -m bench.load --target HOST:PORT --seconds 30 [--rate EVENTS_PER_SECOND]` prints one JSON object at the end. A
secure system is sent to with `--ca-file` and `--key-file`.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import cycle
from pathlib import Path
from typing import TypeAlias

import grpc

from bench.lines import batches, columns
from tocsin.logs.v1.log_ingest_service_pb2 import IngestBatchResponse

SERVICE = "/tocsin.logs.v1.LogIngestService"
DEADLINE = 15.0

Method: TypeAlias = "grpc.aio.UnaryUnaryMultiCallable[bytes, IngestBatchResponse]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """How a secure system is called: the authority by which it is known, and a key."""

    ca_file: Path
    key_file: Path


@dataclass(slots=True, kw_only=True)
class Sent:
    """The result of a load; latencies in milliseconds."""

    events: int = 0
    refused_calls: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)


async def load(
    target: str,
    *,
    seconds: float,
    size: int,
    in_flight: int,
    rate: float | None,
    services: int = 0,
    is_columns: bool = False,
    credentials: Credentials | None = None,
) -> Sent:
    """Send batches for some seconds, with so many calls in flight."""
    sent = Sent()
    source = cycle((columns if is_columns else batches)(size, services))
    method = f"{SERVICE}/{'IngestColumns' if is_columns else 'IngestBatch'}"
    started = time.monotonic()
    async with _channel(target, credentials) as channel:
        call: Method = channel.unary_unary(method, response_deserializer=IngestBatchResponse.FromString)
        turns = _turns(started, seconds, size, rate)
        workers = [_worker(call, source, turns, sent) for _ in range(in_flight)]
        await asyncio.gather(*workers)
    sent.seconds = time.monotonic() - started
    return sent


def _channel(target: str, credentials: Credentials | None) -> grpc.aio.Channel:
    options = [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
    if credentials is None:
        return grpc.aio.insecure_channel(target, options=options)
    tls = grpc.ssl_channel_credentials(credentials.ca_file.read_bytes())
    key = grpc.access_token_call_credentials(credentials.key_file.read_text().strip())
    return grpc.aio.secure_channel(target, grpc.composite_channel_credentials(tls, key), options=options)


async def _worker(
    call: Method,
    source: Iterator[bytes],
    turns: Iterator[float],
    sent: Sent,
) -> None:
    for turn in turns:
        delay = turn - time.monotonic()
        if delay > 0:
            await asyncio.sleep(delay)
        began = time.monotonic()
        try:
            answer = await call(next(source), timeout=DEADLINE)
        except grpc.aio.AioRpcError as error:
            name = error.code().name
            sent.refused_calls[name] = sent.refused_calls.get(name, 0) + 1
            await asyncio.sleep(0.05)
            continue
        sent.events += answer.accepted_count
        sent.latencies.append((time.monotonic() - began) * 1000)


def _turns(started: float, seconds: float, size: int, rate: float | None) -> Iterator[float]:
    """Generate the times at which batches are due, shared by all workers."""
    number = 0
    while time.monotonic() - started < seconds:
        yield started + number * size / rate if rate else 0.0
        number += 1


def main() -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", required=True)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--size", type=int, default=500, help="events per batch")
    parser.add_argument("--in-flight", type=int, default=8)
    parser.add_argument("--rate", type=float, help="events per second; default: as fast as possible")
    parser.add_argument("--services", type=int, default=0, help="spread the events over so many services")
    parser.add_argument("--columns", action="store_true", help="send columns, compressed with zstd")
    parser.add_argument("--ca-file", type=Path, help="the authority of a secure system")
    parser.add_argument("--key-file", type=Path, help="a key for it")
    given = parser.parse_args()
    run = load(
        given.target,
        seconds=given.seconds,
        size=given.size,
        in_flight=given.in_flight,
        rate=given.rate,
        services=given.services,
        is_columns=given.columns,
        credentials=Credentials(ca_file=given.ca_file, key_file=given.key_file) if given.ca_file else None,
    )
    sent = asdict(asyncio.run(run))
    latencies = sorted(sent.pop("latencies"))
    sent["p50_ms"], sent["p99_ms"] = (latencies[int(len(latencies) * q)] if latencies else None for q in (0.5, 0.99))
    print(json.dumps(sent))


if __name__ == "__main__":
    main()
