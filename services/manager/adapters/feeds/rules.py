"""The enabled rules: what changes in them is read once, for all who follow them."""

import asyncio
from datetime import timedelta

import structlog

from services.chassis.failures import ShuttingDown
from services.manager.core.rule import RuleSet
from services.manager.ports.queries import RuleReader

log = structlog.get_logger()

# A notification that was lost is made up for after this long.
LOOK = timedelta(seconds=2)


class RuleHub:
    """Holds the newest set of enabled rules; `load` it before anybody asks."""

    def __init__(self, reader: RuleReader) -> None:
        self._reader = reader
        self._newest = RuleSet(revision=0)
        self._changed = asyncio.Event()
        self._loading = asyncio.Lock()
        self._is_closed = False

    @property
    def current(self) -> RuleSet:
        """See RuleFeed."""
        return self._newest

    async def after(self, version: str) -> RuleSet:
        """See RuleFeed."""
        while self._newest.version == version and not self._is_closed:
            await self._changed.wait()
        if self._is_closed:
            raise ShuttingDown("this instance is stopping")
        return self._newest

    async def load(self) -> None:
        """Read what changed in the rules, and tell those who wait."""
        async with self._loading:
            if await self._reader.version() == self._newest.version:
                return
            self._newest = await self._read()
        log.info("rules_loaded", revision=self._newest.revision, rules=len(self._newest.rules))
        self._tell()

    async def _read(self) -> RuleSet:
        if not self._newest.epoch:
            return await self._reader.enabled()
        changes = await self._reader.changes(self._newest.revision)
        # A database that was made anew, or brought back from a backup, is read as a whole.
        if self._newest.epoch == changes.epoch and changes.revision > self._newest.revision:
            return self._newest.changed(changes)
        return await self._reader.enabled()

    def close(self) -> None:
        """Send everybody away."""
        self._is_closed = True
        self._tell()

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
