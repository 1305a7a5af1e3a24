"""Deliveries for channels that the routes file does not name any more."""

from collections.abc import Set as AbstractSet

import structlog

from services.chassis.clock import Clock
from services.chassis.telemetry import in_trace_of
from services.domain.trace_context import headers_of
from services.notifier.core.answer import Misconfigured
from services.notifier.core.delivery import Patience, after
from services.notifier.ports import Ending, Outcomes, Queue, Wanted

log = structlog.get_logger()

_AT_ONCE = 100


async def give_up_unknown(
    known: AbstractSet[str], queue: Queue, outcomes: Outcomes, patience: Patience, clock: Clock
) -> None:
    """Hand what waits for channels that are gone to their fallbacks; it stands among the failed ones from then on."""
    for channel in sorted(await queue.channels() - known):
        count = 0
        while jobs := await queue.take(channel, Wanted.WAITING, most=_AT_ONCE, now=clock.now()):
            for job in jobs:
                now = clock.now()
                answer = Misconfigured("the routes file does not name this channel any more")
                ended, _ = after(job.delivery, answer, patience, now=now, chance=0.0)
                with in_trace_of(headers_of(job.traceparent)):
                    await outcomes.record(Ending(before=job.delivery, after=ended), now=now)
            count += len(jobs)
        log.warning("channel_gone", channel=channel, deliveries=count)
