"""What the sinks were sent, and how they were told to answer."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime

Json = dict[str, object]
CHANNELS = ("slack", "pagerduty", "webhook", "email")
_KEPT = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """How a sink answers: with this status instead of its own, after this delay, so many times (None: until told)."""

    status: int | None = None
    retry_after: str | None = None
    delay: float = 0.0
    times: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One message that reached a sink. `key` is what the protocol has to recognise a repetition by."""

    channel: str
    status: int
    is_accepted: bool
    key: str
    alert: str
    kind: str
    problems: list[str] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    body: object = None
    time: datetime

    def as_json(self) -> Json:
        """For GET /deliveries; camelCase as in all of the system's JSON."""
        plain = asdict(self)
        return plain | {"isAccepted": plain.pop("is_accepted"), "time": self.time.isoformat()}


class Journal:
    """All that came, in order, and the orders that stand."""

    def __init__(self) -> None:
        self._deliveries: deque[Delivery] = deque(maxlen=_KEPT)
        self._behaviours: dict[str, Behaviour] = {}
        self._changed = asyncio.Condition()

    @property
    def deliveries(self) -> list[Delivery]:
        """Everything that came, accepted or not."""
        return list(self._deliveries)

    def accepted(self, channel: str | None = None) -> list[Delivery]:
        """What was accepted, of one channel or of all."""
        return [one for one in self._deliveries if one.is_accepted and channel in {None, one.channel}]

    def clear(self) -> None:
        """Forget what came."""
        self._deliveries.clear()

    def behave(self, channel: str, behaviour: Behaviour | None) -> None:
        """Answer like this from now on; None: as the protocol has it."""
        if channel not in CHANNELS:
            raise ValueError(f"no sink is called {channel!r}")
        self._behaviours.pop(channel, None)
        if behaviour is not None:
            self._behaviours[channel] = behaviour

    def order(self, channel: str) -> Behaviour:
        """How to answer the message that came just now."""
        behaviour = self._behaviours.get(channel, Behaviour())
        if behaviour.times is not None:
            left = behaviour.times - 1
            self.behave(channel, replace(behaviour, times=left) if left > 0 else None)
        return behaviour

    async def add(self, delivery: Delivery) -> None:
        """Note what came."""
        async with self._changed:
            self._deliveries.append(delivery)
            self._changed.notify_all()

    async def until(self, holds: Callable[["Journal"], object], *, within: float = 30.0) -> None:
        """Wait until something holds; raises TimeoutError when it does not in time."""
        async with asyncio.timeout(within), self._changed:
            await self._changed.wait_for(lambda: bool(holds(self)))


def now() -> datetime:
    """The sinks stand in the real world."""
    return datetime.now(UTC)
