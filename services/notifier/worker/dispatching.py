"""One channel's bulkhead: its own bounded pool, its own queue, its own breaker.

A channel that asks to wait is left alone for so long by this process. What waits for it keeps its place; what would
wait beyond the limit goes to the fallbacks. After that it is sent to one by one, the first one first, until nothing
waits any more: several at once would be told to wait again, and those that are not would overtake the others.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol
from uuid import UUID

import structlog

from services.chassis.backoff import Backoff
from services.chassis.breaker import Breaker
from services.chassis.clock import Clock
from services.chassis.health import Health
from services.chassis.loops import Loop
from services.notifier.core.answer import Answer, AskedToWait, TurnedAway
from services.notifier.core.dispatch import Door, Guard, Step, step
from services.notifier.metrics import Metrics
from services.notifier.ports import Job, Queue, Wanted
from services.notifier.worker.sending import door_of

log = structlog.get_logger()

# How long to sleep at most when nothing wakes us: other instances' work shows by looking.
_LOOK = timedelta(seconds=1)
_BLINK = timedelta(milliseconds=20)
_TURNED_AWAY_AT_ONCE = 100


class Sends(Protocol):
    """Sends jobs of one channel; raises nothing but cancellation."""

    async def send(self, job: Job) -> Answer:
        """Make one attempt and record what became of it; gives what the channel said."""
        ...

    async def turn_away(self, job: Job, answer: Answer) -> None:
        """Record that no attempt was made, and why."""
        ...


class Dispatcher:
    """Takes jobs of one channel and has at most `workers` of them sent at once."""

    def __init__(
        self,
        channel: str,
        *,
        workers: int,
        queue: Queue,
        sender: Sends,
        breaker: Breaker,
        clock: Clock,
        metrics: Metrics,
        health: Health,
        backoff: Backoff,
        max_wait: timedelta,
    ) -> None:
        self.channel = channel
        self.breaker = breaker
        self._workers = workers
        self._queue = queue
        self._sender = sender
        self._clock = clock
        self._metrics = metrics
        self._loop = Loop(self._turn, name=f"channel {channel}", health=health, backoff=backoff)
        self._max_wait = max_wait
        # Until when the channel asked to be left alone; in the past while what waited is sent one by one.
        self._wait_until: datetime | None = None
        self._held: dict[UUID, asyncio.Task[None]] = {}
        self._probe: asyncio.Task[None] | None = None
        self._has_failed = True

    def wake(self) -> None:
        """There may be something to take."""
        self._loop.wake()

    def stop(self) -> None:
        """Take nothing more; what is being sent is finished."""
        self._loop.stop()

    async def run(self) -> None:
        """Work until stopped, and wait for what is being sent."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            await self._loop.run()

    async def _turn(self) -> timedelta:
        """Take what there is and have it sent; gives how long to sleep after that."""
        if self._loop.is_stopping or await self._work(self._group):
            return timedelta()
        return await self._nap()

    async def _work(self, group: asyncio.TaskGroup) -> bool:
        """Take what the breaker allows; says whether there was anything."""
        now = self._clock.now()
        probing = self._probe is not None
        guard = Guard(
            door=door_of(self.breaker),
            probe_at=self.breaker.retry_at,
            is_probing=probing,
            wait_until=self._wait_until,
        )
        match step(guard, now=now):
            case Step.SEND:
                # Only what can be sent at once is taken: a lease that waits in memory helps nobody.
                jobs = await self._take(Wanted.DUE, most=self._free, now=now)
                most = 1 if self._has_failed and not probing and len(jobs) < self._free else 0
                probes = await self._take(Wanted.DUE_PROBE, most=most, now=now)
                self._start(group, jobs)
                self._start_probe(group, probes)
                if not self._held and self._wait_until is not None and self._wait_until <= now:
                    self._wait_until = None
                return bool(jobs or probes)
            case Step.WAIT:
                return await self._turn_away_late(now)
            case Step.PROBE:
                probes = await self._take(Wanted.PROBE, most=1, now=now) or await self._take(
                    Wanted.DUE, most=1, now=now
                )
                self._start_probe(group, probes)
                return bool(probes)
            case Step.DIVERT:
                jobs = await self._take(Wanted.BY_HAND, most=self._free, now=now)
                self._start(group, jobs)
                waiting = await self._take(Wanted.WAITING, most=_TURNED_AWAY_AT_ONCE, now=now)
                return await self._turn_away(waiting, TurnedAway()) or bool(jobs)

    async def _turn_away_late(self, now: datetime) -> bool:
        """Hand on what would wait too long, given how long the channel still wants to be left alone."""
        left = (self._wait_until or now) - now
        late = await self._take(
            Wanted.DUE, most=_TURNED_AWAY_AT_ONCE, now=now, due_by=min(now, now + left - self._max_wait)
        )
        return await self._turn_away(late, AskedToWait("asks to be left alone", left))

    async def _turn_away(self, jobs: Sequence[Job], answer: Answer) -> bool:
        # One after the other: an alert's notifications reach the fallback in the order of its life.
        for job in jobs:
            await self._sender.turn_away(job, answer)
        return bool(jobs)

    async def _take(self, wanted: Wanted, *, most: int, now: datetime, due_by: datetime | None = None) -> list[Job]:
        if most <= 0:
            return []
        return await self._queue.take(self.channel, wanted, most=most, now=now, held=list(self._held), due_by=due_by)

    @property
    def _free(self) -> int:
        return (self._workers if self._wait_until is None else 1) - len(self._held)

    def _start(self, group: asyncio.TaskGroup, jobs: Iterable[Job]) -> None:
        for job in jobs:
            task = group.create_task(self._send(job), name=f"deliver {self.channel}")
            self._held[job.delivery.id] = task
            task.add_done_callback(partial(self._ended, job.delivery.id))

    async def _send(self, job: Job) -> None:
        try:
            answer = await self._sender.send(job)
            if isinstance(answer, AskedToWait):
                until = self._clock.now() + answer.wait
                self._wait_until = until if self._wait_until is None else max(self._wait_until, until)
        except Exception:
            # Nothing foreseen: the lease runs out and it is tried again, while the others go on.
            log.exception("delivery_crashed", channel=self.channel, delivery=str(job.delivery.id))

    def _start_probe(self, group: asyncio.TaskGroup, jobs: Iterable[Job]) -> None:
        for job in jobs:
            self._start(group, [job])
            self._probe = self._held[job.delivery.id]

    def _ended(self, delivery: UUID, task: asyncio.Task[None]) -> None:
        self._held.pop(delivery)
        if self._probe is task:
            self._probe = None
        self._loop.wake()

    async def _nap(self) -> timedelta:
        """Until the next job is due, or as long as a nap may be."""
        now = self._clock.now()
        ahead = await self._queue.outlook(self.channel, now=now)
        self._has_failed = ahead.failed > 0
        self._metrics.waiting(self.channel, waiting=ahead.waiting, failed=ahead.failed)
        nap = _LOOK if ahead.next_due is None else min(ahead.next_due - now, _LOOK)
        if door_of(self.breaker) is Door.OPEN:
            nap = max(min(nap, self.breaker.retry_at - now), _BLINK)
        if self._wait_until is not None and now < self._wait_until:
            nap = max(min(nap, self._wait_until - now), _BLINK)
        return nap


class Switchboard:
    """All dispatchers by channel."""

    def __init__(self) -> None:
        self._dispatchers: dict[str, Dispatcher] = {}

    def add(self, dispatcher: Dispatcher) -> None:
        """Know one more."""
        self._dispatchers[dispatcher.channel] = dispatcher

    def wake(self, channels: Iterable[str]) -> None:
        """Tell those channels that there is work; names that are not known are passed over."""
        for channel in channels:
            if dispatcher := self._dispatchers.get(channel):
                dispatcher.wake()

    @property
    def breakers(self) -> Mapping[str, Breaker]:
        """The breaker of each channel, by name."""
        return {name: self._dispatchers[name].breaker for name in sorted(self._dispatchers)}
