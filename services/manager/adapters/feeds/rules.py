"""The enabled rules, read once after each change for all who follow them."""

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
        self._is_closed = False

    @property
    def current(self) -> RuleSet:
        """See RuleFeed."""
        return self._newest

    async def after(self, revision: int) -> RuleSet:
        """See RuleFeed."""
        while self._newest.revision == revision and not self._is_closed:
            await self._changed.wait()
        if self._is_closed:
            raise ShuttingDown("this instance is stopping")
        return self._newest

    async def load(self) -> None:
        """Read the rules if they changed, and tell those who wait."""
        if await self._reader.revision() == self._newest.revision:
            return
        self._newest = await self._reader.enabled()
        log.info("rules_loaded", revision=self._newest.revision, rules=len(self._newest.rules))
        self._tell()

    def close(self) -> None:
        """Send everybody away."""
        self._is_closed = True
        self._tell()

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
