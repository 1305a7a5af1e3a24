"""What the sinks received, and how a test tells them to respond."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice

CHANNELS = ("slack", "pagerduty", "webhook", "email")
_MAX_DELIVERIES = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """How a sink responds: with this status instead of its own, after this delay, so many times (None: without end)."""

    status: int | None = None
    retry_after: str | None = None
    delay: float = 0.0
    times: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkDelivery:
    """One message that reached a sink. `key` is the protocol's key for duplicates, `path` is empty for an e-mail.

    `incident` is empty for a message that is about one alert.
    """

    channel: str
    status: int
    is_accepted: bool
    key: str
    alert: str
    kind: str
    incident: str = ""
    path: str = ""
    problems: list[str] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    body: object = None
    time: datetime

    def as_json(self) -> dict[str, object]:
        """Return the JSON of GET /deliveries, in camelCase as in all of the system's JSON."""
        plain = asdict(self)
        return plain | {"isAccepted": plain.pop("is_accepted"), "time": self.time.isoformat()}


class Journal:
    """All deliveries in order, and the behaviours that are set."""

    def __init__(self) -> None:
        self._deliveries: deque[SinkDelivery] = deque(maxlen=_MAX_DELIVERIES)
        # Of all that ever came.
        self.count = 0
        self._behaviours: dict[str, Behaviour] = {}
        # What PagerDuty knows by a key; what follows the first event names the key alone.
        self._subjects: dict[str, tuple[str, str]] = {}
        self._changed = asyncio.Condition()

    @property
    def deliveries(self) -> list[SinkDelivery]:
        """All deliveries, accepted or not."""
        return list(self._deliveries)

    def since(self, first: int) -> list[SinkDelivery]:
        """Return the deliveries from this number on, of those that are kept; the first that ever came has number 0."""
        skipped = first - (self.count - len(self._deliveries))
        return list(islice(self._deliveries, max(skipped, 0), None))

    def accepted(self, channel: str | None = None) -> list[SinkDelivery]:
        """Return what was accepted, of one channel or of all."""
        return [one for one in self._deliveries if one.is_accepted and channel in {None, one.channel}]

    def clear(self) -> None:
        """Remove all deliveries."""
        self._deliveries.clear()

    def behave(self, channel: str, behaviour: Behaviour | None) -> None:
        """Respond like this from now on; None: as the protocol requires."""
        if channel not in CHANNELS:
            raise ValueError(f"no sink is called {channel!r}")
        self._behaviours.pop(channel, None)
        if behaviour is not None:
            self._behaviours[channel] = behaviour

    def next_behaviour(self, channel: str) -> Behaviour:
        """Return how to respond to the message that has just arrived, and count it."""
        behaviour = self._behaviours.get(channel, Behaviour())
        if behaviour.times is not None:
            left = behaviour.times - 1
            self.behave(channel, replace(behaviour, times=left) if left > 0 else None)
        return behaviour

    async def add(self, delivery: SinkDelivery) -> None:
        """Add a delivery."""
        if delivery.channel == "pagerduty":
            delivery = self._with_subject(delivery)
        async with self._changed:
            self._deliveries.append(delivery)
            self.count += 1
            self._changed.notify_all()

    def _with_subject(self, delivery: SinkDelivery) -> SinkDelivery:
        if delivery.alert:
            self._subjects[delivery.key] = delivery.alert, delivery.incident
            return delivery
        alert, incident = self._subjects.get(delivery.key, (delivery.key, ""))
        return replace(delivery, alert=alert, incident=incident)

    async def until(self, condition: Callable[["Journal"], object], *, timeout_s: float = 30.0) -> None:
        """Wait until the condition holds; raise TimeoutError when it does not in time."""
        async with asyncio.timeout(timeout_s), self._changed:
            await self._changed.wait_for(lambda: bool(condition(self)))


def utc_now() -> datetime:
    """Return the current time: the sinks are no part of the services and have no Clock."""
    return datetime.now(UTC)
