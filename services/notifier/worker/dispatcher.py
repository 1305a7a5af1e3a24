"""One channel's bulkhead: its own bounded pool, its own queue, its own breaker.

A channel that asks to wait is left alone for so long by this process. What waits for it keeps its place; what would
wait beyond the limit goes to the fallbacks. After that it is sent to one by one, the first one first, until nothing
waits any more: of several at once some would be asked to wait again, and the others would overtake them.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID

import structlog

from services.chassis.breaker import Breaker
from services.chassis.health import Health
from services.chassis.loops import Loop
from services.notifier.core.delivery import ChannelStatus, CircuitState, DispatchStep, next_step
from services.notifier.core.response import AskedToWait, ChannelResponse, circuit_open
from services.notifier.ports import DeliveryQueue, LeasedDelivery, QueueFilter
from services.notifier.worker.sender import Sender, circuit_of

log = structlog.get_logger()

# The longest pause when nothing wakes us: what other instances do shows by looking.
_POLL_INTERVAL = timedelta(seconds=1)
_MIN_PAUSE = timedelta(milliseconds=20)
_MAX_FALLBACKS = 100
# While less than half of the pool is free, others are leased after this time only: few at once cost as much as many.
_LEASE_PAUSE_SECONDS = 0.01
# So many times the pool may wait until the outcomes of what was sent are written.
_MAX_UNWRITTEN = 2


class Dispatcher:
    """Leases deliveries of one channel and has at most `workers` of them sent at once.

    Others are sent while the outcomes of the former ones are written.
    """

    def __init__(self, channel: str, *, workers: int, queue: DeliveryQueue, sender: Sender, health: Health) -> None:
        self.channel = channel
        self.breaker = sender.breaker
        self._workers = workers
        self._queue = queue
        self._sender = sender
        self._clock = sender.clock
        self._metrics = sender.metrics
        self._max_wait = sender.policy.max_wait
        self._loop = Loop(self._turn, name=f"channel {channel}", health=health, backoff=sender.backoff)
        # Until when the channel asked to wait; in the past while what waited is sent one by one.
        self._wait_until: datetime | None = None
        self._held: dict[UUID, asyncio.Task[None]] = {}
        # Those of them that the channel has not answered.
        self._unanswered: set[UUID] = set()
        # Whether the last lease took all that it could.
        self._has_more = False
        self._lease_timer: asyncio.TimerHandle | None = None
        self._probe: asyncio.Task[None] | None = None
        self._has_failed = True
        # When the queue was last counted: that costs as much as it is long.
        self._status_time = datetime.min.replace(tzinfo=UTC)

    def wake(self) -> None:
        """Look for deliveries at once."""
        self._loop.wake()

    def stop(self) -> None:
        """Lease nothing more; what is being sent is finished."""
        self._loop.stop()

    async def run(self) -> None:
        """Work until stopped, and wait for what is being sent."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            await self._loop.run()

    async def _turn(self) -> timedelta:
        """Lease what is due and have it sent; return the pause after that."""
        if self._loop.is_stopping or await self._work(self._group):
            return timedelta()
        return await self._pause()

    async def _work(self, group: asyncio.TaskGroup) -> bool:
        """Lease what the breaker allows; return whether there was anything."""
        now = self._clock.now()
        is_probing = self._probe is not None
        status = ChannelStatus(
            circuit=circuit_of(self.breaker),
            probe_time=self.breaker.retry_at,
            is_probing=is_probing,
            wait_until=self._wait_until,
        )
        match next_step(status, now=now):
            case DispatchStep.SEND:
                # Only what can be sent at once is leased: a lease that waits in memory helps nobody.
                free = self._free
                due = await self._lease(QueueFilter.DUE, limit=free, now=now)
                self._has_more = len(due) >= free
                limit = 1 if self._has_failed and not is_probing and len(due) < free else 0
                probes = await self._lease(QueueFilter.DUE_PROBE, limit=limit, now=now)
                self._start(group, due)
                self._start_probe(group, probes)
                if not self._held and self._wait_until is not None and self._wait_until <= now:
                    self._wait_until = None
                # Fewer than could be sent are all that are due; what comes later wakes this.
                return (bool(due) and len(due) == free) or bool(probes)
            case DispatchStep.WAIT:
                return await self._fall_back_late(now)
            case DispatchStep.PROBE:
                probes = await self._lease(QueueFilter.PROBE, limit=1, now=now) or await self._lease(
                    QueueFilter.DUE, limit=1, now=now
                )
                self._start_probe(group, probes)
                return bool(probes)
            case DispatchStep.FALL_BACK:
                by_hand = await self._lease(QueueFilter.BY_HAND, limit=self._free, now=now)
                self._start(group, by_hand)
                waiting = await self._lease(QueueFilter.WAITING, limit=_MAX_FALLBACKS, now=now)
                return await self._fall_back(waiting, circuit_open(self.breaker.last_failure)) or bool(by_hand)

    async def _fall_back_late(self, now: datetime) -> bool:
        """Send to the fallbacks what would wait too long, given how long the channel still asks to wait."""
        left = (self._wait_until or now) - now
        late = await self._lease(
            QueueFilter.DUE, limit=_MAX_FALLBACKS, now=now, due_by=min(now, now + left - self._max_wait)
        )
        return await self._fall_back(late, AskedToWait("asks to be left alone", left))

    async def _fall_back(self, leased: Sequence[LeasedDelivery], response: ChannelResponse) -> bool:
        # One after the other: an alert's notifications reach the fallback in the order of its life.
        for each in leased:
            await self._sender.fall_back(each, response)
        return bool(leased)

    async def _lease(
        self, selected: QueueFilter, *, limit: int, now: datetime, due_by: datetime | None = None
    ) -> list[LeasedDelivery]:
        if limit <= 0:
            return []
        held = list(self._held)
        return await self._queue.lease(self.channel, selected, limit=limit, now=now, held=held, due_by=due_by)

    @property
    def _free(self) -> int:
        if self._wait_until is not None:
            return 1 - len(self._held)
        return min(self._workers - len(self._unanswered), _MAX_UNWRITTEN * self._workers - len(self._held))

    def _start(self, group: asyncio.TaskGroup, leased: Iterable[LeasedDelivery]) -> None:
        for each in leased:
            task = group.create_task(self._send(each), name=f"deliver {self.channel}")
            self._held[each.delivery.id] = task
            self._unanswered.add(each.delivery.id)
            task.add_done_callback(partial(self._ended, each.delivery.id))

    async def _send(self, leased: LeasedDelivery) -> None:
        try:
            await self._sender.send(leased, partial(self._answered, leased.delivery.id))
        except Exception:
            # Nothing foreseen: the lease runs out and it is sent again, while the others go on.
            log.exception("delivery_crashed", channel=self.channel, delivery=str(leased.delivery.id))

    def _answered(self, delivery_id: UUID, response: ChannelResponse) -> None:
        self._unanswered.discard(delivery_id)
        if isinstance(response, AskedToWait):
            until = self._clock.now() + response.wait
            self._wait_until = until if self._wait_until is None else max(self._wait_until, until)
        if self._has_more:
            self._wake_soon()

    def _wake_soon(self) -> None:
        """Look for deliveries when many can be leased at once, and before long."""
        if 2 * self._free >= self._workers:
            self._loop.wake()
        elif self._lease_timer is None:
            self._lease_timer = asyncio.get_running_loop().call_later(_LEASE_PAUSE_SECONDS, self._wake_now)

    def _wake_now(self) -> None:
        self._lease_timer = None
        self._loop.wake()

    def _start_probe(self, group: asyncio.TaskGroup, leased: Iterable[LeasedDelivery]) -> None:
        for each in leased:
            self._start(group, [each])
            self._probe = self._held[each.delivery.id]

    def _ended(self, delivery_id: UUID, task: asyncio.Task[None]) -> None:
        self._held.pop(delivery_id)
        self._unanswered.discard(delivery_id)
        if self._probe is task:
            self._probe = None
        if self._held:
            self._wake_soon()
        else:
            self._loop.wake()

    async def _pause(self) -> timedelta:
        """Return the time until the next delivery is due, bounded."""
        now = self._clock.now()
        is_closed = circuit_of(self.breaker) is CircuitState.CLOSED and self._wait_until is None
        if is_closed and self._free <= 0 and now < self._status_time + _POLL_INTERVAL:
            # Nothing can be sent before something that is being sent has ended, which wakes this.
            return _POLL_INTERVAL
        status = await self._queue.status(self.channel, now=now)
        self._status_time = now
        self._has_failed = status.failed > 0
        self._metrics.waiting(self.channel, waiting=status.waiting, failed=status.failed)
        due_time = status.next_due_time
        pause = _POLL_INTERVAL if due_time is None else min(due_time - now, _POLL_INTERVAL)
        if circuit_of(self.breaker) is CircuitState.OPEN:
            pause = max(min(pause, self.breaker.retry_at - now), _MIN_PAUSE)
        if self._wait_until is not None and now < self._wait_until:
            pause = max(min(pause, self._wait_until - now), _MIN_PAUSE)
        return pause


class Dispatchers:
    """All dispatchers by channel."""

    def __init__(self) -> None:
        self._dispatchers: dict[str, Dispatcher] = {}

    def add(self, dispatcher: Dispatcher) -> None:
        """Register the dispatcher of a channel."""
        self._dispatchers[dispatcher.channel] = dispatcher

    def wake(self, channels: Iterable[str]) -> None:
        """Wake the dispatchers of these channels, as far as there are any."""
        for channel in channels:
            if dispatcher := self._dispatchers.get(channel):
                dispatcher.wake()

    @property
    def breakers(self) -> Mapping[str, Breaker]:
        """Return the breaker of each channel, by name."""
        return {name: self._dispatchers[name].breaker for name in sorted(self._dispatchers)}

    @property
    def circuits(self) -> Mapping[str, CircuitState]:
        """Return what each channel's breaker lets through, by name."""
        return {name: circuit_of(breaker) for name, breaker in self.breakers.items()}
