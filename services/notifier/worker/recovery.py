"""What an instance does when it starts, before it sends anything."""

from collections.abc import Set as AbstractSet

import structlog

from services.chassis.clock import Clock
from services.chassis.telemetry import in_trace_of
from services.domain.trace_context import headers_of
from services.notifier.core.delivery import RetryPolicy, apply_response
from services.notifier.core.response import Misconfigured
from services.notifier.ports import DeliveryOutcome, DeliveryOutcomes, DeliveryQueue, QueueFilter

log = structlog.get_logger()

_BATCH = 100


async def release_own_leases(queue: DeliveryQueue, clock: Clock) -> None:
    """Make deliveries due that were in flight when this instance ended."""
    count = await queue.release_own_leases(now=clock.now())
    log.info("leases_released", deliveries=count)


async def fail_removed_channels(
    channels: AbstractSet[str], queue: DeliveryQueue, outcomes: DeliveryOutcomes, policy: RetryPolicy, clock: Clock
) -> None:
    """Fail what waits for channels that the routes file does not name any more, so that it goes to their fallbacks."""
    response = Misconfigured("the routes file does not name this channel any more")
    for channel in sorted(await queue.list_channels() - channels):
        count = 0
        for selected in (QueueFilter.WAITING, QueueFilter.BY_HAND):
            while leased := await queue.lease(channel, selected, limit=_BATCH, now=clock.now()):
                for each in leased:
                    now = clock.now()
                    failed, _ = apply_response(each.delivery, response, policy, now=now, jitter=0.0)
                    with in_trace_of(headers_of(each.traceparent)):
                        await outcomes.record(DeliveryOutcome(before=each.delivery, after=failed), now=now)
                count += len(leased)
        log.warning("channel_removed", channel=channel, deliveries=count)
