"""Who watches what a broadcaster holds: counted, woken, and told when the instance stops."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Generic, Protocol, TypeVar

from services.chassis.failures import ShuttingDown


class _Notified(Protocol):
    """What is woken when there may be something to send."""

    notified: asyncio.Event


SubscriptionT = TypeVar("SubscriptionT", bound=_Notified)


class Subscribers(Generic[SubscriptionT]):
    """The subscriptions of one broadcaster.

    `fill` reads what they are sent, before one begins; `drop` drops that after the last one, so that nothing is held
    while nobody watches.
    """

    def __init__(self, *, fill: Callable[[], Awaitable[None]], drop: Callable[[], None]) -> None:
        self._fill = fill
        self._drop = drop
        self._subscriptions: set[SubscriptionT] = set()
        # Those that are being made count too.
        self._count = 0
        self._is_closed = False

    def __len__(self) -> int:
        """Return the number of subscriptions."""
        return len(self._subscriptions)

    def __bool__(self) -> bool:
        """Return whether somebody watches, or is about to."""
        return bool(self._count)

    @asynccontextmanager
    async def subscribe(self, make: Callable[[], SubscriptionT]) -> AsyncIterator[SubscriptionT]:
        """Yield a new subscription until the end of the block. Raises ShuttingDown, and what `fill` raises."""
        self._raise_if_closed()
        self._count += 1
        try:
            await self._fill()
            subscription = make()
            self._subscriptions.add(subscription)
            try:
                yield subscription
            finally:
                self._subscriptions.discard(subscription)
        finally:
            self._count -= 1
            if not self._count:
                self._drop()

    async def wait(self, subscription: SubscriptionT) -> None:
        """Wait until there may be something for a subscription. Raises ShuttingDown."""
        await subscription.notified.wait()
        subscription.notified.clear()
        self._raise_if_closed()

    def notify(self) -> None:
        """Wake all subscriptions."""
        for subscription in self._subscriptions:
            subscription.notified.set()

    def close(self) -> None:
        """End all subscriptions, and let none begin."""
        self._is_closed = True
        self.notify()

    def _raise_if_closed(self) -> None:
        if self._is_closed:
            raise ShuttingDown("this instance is stopping")
