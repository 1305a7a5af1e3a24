"""Send canaries into the pipe, and send those that come out of the evaluator on to the notifier.

A canary that comes twice is measured twice, and one that is lost is not sent again: the next one follows soon.
"""

from collections.abc import Callable, Sequence
from datetime import timedelta

import structlog

from services.chassis.clock import Clock
from services.chassis.failures import Failure
from services.contract.timestamps import datetime_of
from services.domain.trace_context import headers_of
from services.manager.core.canary import CANARY_RULE_ID, Canary
from services.manager.metrics import Metrics
from services.manager.ports.canaries import CanaryIngest
from services.manager.ports.incidents import ReturnedCanary
from services.manager.ports.tables import Store
from tocsin.alerts.v1.alert_pb2 import AlertTransition

log = structlog.get_logger()


class CanaryWorker:
    """Sends a canary in each interval."""

    def __init__(
        self, ingest: CanaryIngest, clock: Clock, metrics: Metrics, new_id: Callable[[], str], every: timedelta
    ) -> None:
        self._ingest = ingest
        self._clock = clock
        self._metrics = metrics
        self._new_id = new_id
        self._every = every
        self._has_waited = False

    async def turn(self) -> timedelta:
        """Send one, except at the start, when evaluators do not have the rule yet; return when the next is due."""
        if self._has_waited:
            await self._send()
        self._has_waited = True
        return self._every

    async def _send(self) -> None:
        canary = Canary(id=self._new_id(), time=self._clock.now())
        try:
            await self._ingest.send(canary)
        except Failure as failure:
            log.warning("canary_refused", reason=failure.reason, problem=str(failure))
            self._metrics.canary_sent(is_accepted=False)
        else:
            self._metrics.canary_sent(is_accepted=True)


def is_canary(message: AlertTransition) -> bool:
    """Return whether the transition is one of the canaries' rule, of which nobody may learn."""
    return message.rule_id == CANARY_RULE_ID


async def forward_canaries(store: Store, received: Sequence[tuple[AlertTransition, str]]) -> None:
    """Send the canaries that fire on to the notifier, with their traceparents. Raises StoreUnavailable.

    An end is of no interest, and an event that somebody else sent under the canaries' name may lack its time.
    """
    returned = [
        ReturnedCanary(time=datetime_of(message.samples[0].event_time), headers=headers_of(traceparent))
        for message, traceparent in received
        if message.state == AlertTransition.FIRING and message.samples and message.samples[0].HasField("event_time")
    ]
    if returned:
        async with store.transaction() as transaction:
            await transaction.notifications.insert_canaries(returned)
