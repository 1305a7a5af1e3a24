"""The pool of a channel: it is called again while outcomes are being written, up to a limit."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest

from services.chassis.backoff import Backoff
from services.chassis.breaker import Breaker
from services.chassis.health import Health
from services.notifier.core.delivery import DeliveryState, RetryPolicy
from services.notifier.metrics import Metrics
from services.notifier.ports import DeliveryOutcome, LeasedDelivery, QueueFilter, QueueStatus
from services.notifier.worker.dispatcher import Dispatcher
from services.notifier.worker.sender import Sender
from tests.fakes.clock import FakeClock
from tests.fakes.notifications import notification
from tests.fakes.notifier import NOW, FakeChannel, FakeOutcomes, failed_delivery


class Queue:
    """Deliveries that are all due."""

    def __init__(self, count: int) -> None:
        record = notification(alert="alert").SerializeToString()
        self.waiting = [
            LeasedDelivery(
                delivery=failed_delivery(number=number, state=DeliveryState.IN_FLIGHT).delivery,
                record=record,
                traceparent="",
            )
            for number in range(1, count + 1)
        ]

    async def lease(self, *about: Any, limit: int, **_: Any) -> list[LeasedDelivery]:
        if QueueFilter.DUE not in about:
            return []
        leased, self.waiting = self.waiting[:limit], self.waiting[limit:]
        return leased

    async def status(self, *_: Any, **__: Any) -> QueueStatus:
        return QueueStatus(waiting=len(self.waiting), failed=0, next_due_time=None)

    async def release_own_leases(self, **_: Any) -> int:
        return 0

    async def list_channels(self) -> frozenset[str]:
        return frozenset()


class SlowOutcomes(FakeOutcomes):
    """Writes nothing before it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.may_write = asyncio.Event()

    async def record(self, outcome: DeliveryOutcome, *, now: datetime) -> frozenset[str]:
        await self.may_write.wait()
        return await super().record(outcome, now=now)


@pytest.mark.parametrize(("waiting", "sent"), [(3, 3), (20, 4)])
async def test_a_channel_is_called_again_while_outcomes_are_written_up_to_a_limit(waiting: int, sent: int) -> None:
    clock, channel, outcomes = FakeClock(NOW), FakeChannel(), SlowOutcomes()
    sender = Sender(
        channel=channel,
        recipient="",
        breaker=Breaker("slack", fail_max=2, reset_timeout=timedelta(seconds=30), clock=clock),
        outcomes=outcomes,
        policy=RetryPolicy(max_attempts=3, probe_interval=timedelta(seconds=30)),
        clock=clock,
        random=lambda: 0.5,
        metrics=Metrics(["slack"], dict),
        wake=lambda _: None,
        backoff=Backoff(first_delay=timedelta(0)),
    )
    dispatcher = Dispatcher("slack", workers=2, queue=Queue(waiting), sender=sender, health=Health("notifier"))
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(dispatcher.run())
        await settle()
        assert (len(channel.sent), outcomes.outcomes) == (sent, [])
        outcomes.may_write.set()
        await settle()
        assert len(outcomes.outcomes) == waiting
        dispatcher.stop()


async def settle() -> None:
    """Let everything happen that waits for nothing else."""
    for _ in range(2000):
        await asyncio.sleep(0)
