"""Hearing what any instance has committed."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from services.chassis.database_errors import DRIVER_ERRORS
from services.chassis.postgres import Database

# How soon a connection that died in silence is noticed.
_PROBE_SECONDS = 5.0


async def listen(
    database: Database, channels: Mapping[str, Callable[[str], None]], *, connected: Callable[[], None]
) -> None:
    """Call the channel's function for each notification, until the connection is lost.

    `connected` is called when hearing begins: what was said before that was missed.
    """
    async with database.connection() as connection:
        await _hear(connection, channels, connected)


async def _hear(connection: Any, channels: Mapping[str, Callable[[str], None]], connected: Callable[[], None]) -> None:
    ended = asyncio.Event()

    def over(_: object) -> None:
        ended.set()

    def heard(_: object, __: int, channel: str, payload: object) -> None:
        channels[channel](str(payload))

    connection.add_termination_listener(over)
    try:
        for channel in channels:
            await connection.add_listener(channel, heard)
        connected()
        while not ended.is_set():
            await connection.execute("select 1")
            await _pause(ended)
    finally:
        # A connection that is gone has nothing to be taken back from.
        with suppress(*DRIVER_ERRORS):
            connection.remove_termination_listener(over)
            for channel in channels:
                await connection.remove_listener(channel, heard)


async def _pause(ended: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            await ended.wait()
    except TimeoutError:
        return
