"""The silences that have not expired, in memory: decisions about alerts read them, and ask no database."""

import asyncio
from datetime import datetime, timedelta

import structlog

from services.chassis.clock import Clock
from services.manager.core.silence import Silence, SilenceState
from services.manager.core.silence_index import SilenceIndex
from services.manager.ports.readers import SilenceReader

log = structlog.get_logger()

# A NOTIFY that was lost is made up for after this time.
SILENCE_REFRESH_INTERVAL = timedelta(seconds=1)


class SilenceCache:
    """Holds the newest silences; `refresh` it before the first call."""

    def __init__(self, reader: SilenceReader, clock: Clock) -> None:
        self._reader = reader
        self._clock = clock
        self._version = ""
        self._silences: dict[str, Silence] = {}
        self._index: SilenceIndex | None = None
        self._refreshing = asyncio.Lock()

    def index(self, now: datetime) -> SilenceIndex:
        if self._index is None or not self._index.is_valid(now):
            kept = (each for each in self._silences.values() if each.state(now) is not SilenceState.EXPIRED)
            self._silences = {silence.id: silence for silence in kept}
            self._index = SilenceIndex.of(self._silences.values(), now=now)
        return self._index

    def names_alerts(self) -> bool:
        return any(silence.alert_ids for silence in self._silences.values())

    async def refresh(self) -> None:
        async with self._refreshing:
            if await self._reader.version() == self._version:
                return
            changes = await self._reader.changes_since(self._version, self._clock.now())
            if changes.is_whole:
                self._silences = {}
            self._silences |= {silence.id: silence for silence in changes.silences}
            self._version, self._index = changes.version, None
        log.info("silences_loaded", version=self._version, silences=len(self._silences))
