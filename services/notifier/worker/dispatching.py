"""One channel's bulkhead: its own bounded pool, its own queue, its own breaker."""

import asyncio
from collections.abc import Iterable, Mapping
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
from services.notifier.core.answer import Answer
from services.notifier.core.dispatch import Door, Guard, Step, step
from services.notifier.metrics import Metrics
from services.notifier.ports import Job, Queue, Wanted
from services.notifier.worker.sending import door_of

log = structlog.get_logger()

# How long to sleep at most when nothing wakes us: other instances' work and clocks that differ show by looking.
_LOOK = timedelta(seconds=1)
_BLINK = timedelta(milliseconds=20)
_TURNED_AWAY_AT_ONCE = 100


class Sends(Protocol):
    """Sends jobs of one channel; raises nothing but cancellation."""

    async def send(self, job: Job) -> None:
        """Make one attempt and record what became of it."""
        ...

    async def turn_away(self, job: Job, answer: Answer | None = None) -> None:
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
    ) -> None:
        self.channel = channel
        self.breaker = breaker
        self._workers = workers
        self._queue = queue
        self._sender = sender
        self._clock = clock
        self._metrics = metrics
        self._loop = Loop(self._turn, name=f"channel {channel}", health=health, backoff=backoff)
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
        guard = Guard(door=door_of(self.breaker), probe_at=self.breaker.retry_at, is_probing=probing)
        match step(guard, now=now):
            case Step.SEND:
                # Only what can be sent at once is taken: a lease that waits in memory helps nobody.
                jobs = await self._take(Wanted.DUE, most=self._free, now=now)
                most = 1 if self._has_failed and not probing and len(jobs) < self._free else 0
                probes = await self._take(Wanted.DUE_PROBE, most=most, now=now)
                self._start(group, jobs)
                self._start_probe(group, probes)
                return bool(jobs or probes)
            case Step.PROBE:
                probes = await self._take(Wanted.PROBE, most=1, now=now) or await self._take(
                    Wanted.DUE, most=1, now=now
                )
                self._start_probe(group, probes)
                return bool(probes)
            case Step.DIVERT:
                jobs = await self._take(Wanted.BY_HAND, most=self._free, now=now)
                self._start(group, jobs)
                return await self._turn_away(now) or bool(jobs)

    async def _turn_away(self, now: datetime) -> bool:
        # One after the other: an alert's notifications reach the fallback in the order of its life.
        jobs = await self._take(Wanted.WAITING, most=_TURNED_AWAY_AT_ONCE, now=now)
        for job in jobs:
            await self._sender.turn_away(job)
        return bool(jobs)

    async def _take(self, wanted: Wanted, *, most: int, now: datetime) -> list[Job]:
        if most <= 0:
            return []
        return await self._queue.take(self.channel, wanted, most=most, now=now, held=list(self._held))

    @property
    def _free(self) -> int:
        return self._workers - len(self._held)

    def _start(self, group: asyncio.TaskGroup, jobs: Iterable[Job]) -> None:
        for job in jobs:
            task = group.create_task(self._send(job), name=f"deliver {self.channel}")
            self._held[job.delivery.id] = task
            task.add_done_callback(partial(self._ended, job.delivery.id))

    async def _send(self, job: Job) -> None:
        try:
            await self._sender.send(job)
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
