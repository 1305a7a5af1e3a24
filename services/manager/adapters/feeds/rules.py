"""The enabled rules, read once after each change for all who follow them."""

import asyncio

import structlog

from services.chassis.failures import Failure, ShuttingDown
from services.manager.core.rule import RuleSet
from services.manager.ports.queries import RuleReader

log = structlog.get_logger()

# A notification that was lost is made up for after this long.
_LOOK_SECONDS = 2.0
_TRY_AGAIN_SECONDS = 0.5


class RuleHub:
    """Holds the newest set of enabled rules; `load` it before anybody asks."""

    def __init__(self, reader: RuleReader) -> None:
        self._reader = reader
        self._newest = RuleSet(revision=0)
        self._said = asyncio.Event()
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

    def wake(self, _: str = "") -> None:
        """Something was said to have changed."""
        self._said.set()

    async def load(self) -> None:
        """Read the rules if they changed, and tell those who wait."""
        if await self._reader.revision() == self._newest.revision:
            return
        self._newest = await self._reader.enabled()
        log.info("rules_loaded", revision=self._newest.revision, rules=len(self._newest.rules))
        self._tell()

    async def run(self) -> None:
        """Follow the rules for ever."""
        while True:
            await self._wait()
            self._said.clear()
            try:
                await self.load()
            except Failure as failure:
                log.warning("rules_not_loaded", reason=failure.reason)
                await asyncio.sleep(_TRY_AGAIN_SECONDS)
                self._said.set()

    def close(self) -> None:
        """Send everybody away."""
        self._is_closed = True
        self._tell()

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                await self._said.wait()
        except TimeoutError:
            return
