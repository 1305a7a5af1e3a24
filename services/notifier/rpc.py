"""NotificationService: failed notifications and breakers."""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

import grpc

from services.chassis.breaker import Breaker, BreakerState
from services.chassis.clock import Clock
from services.chassis.failures import Failure, InvalidRequest, Violation
from services.chassis.grpc_server import Mount
from services.contract.paging import (
    PageTokenError,
    decode_page_token,
    encode_page_token,
    filters_of,
    key_time,
    page_size,
)
from services.contract.timestamps import timestamp_of
from services.notifier.core.delivery import State
from services.notifier.core.message import Kind
from services.notifier.ports import Failed, FailedOnes, FailedQuery
from services.notifier.worker.dispatching import Switchboard
from tocsin.notifications.v1 import notification_service_pb2 as service
from tocsin.notifications.v1 import notification_service_pb2_grpc as mounting
from tocsin.notifications.v1.notification_pb2 import CircuitBreaker, FailedNotification, Notification

NAME = service.DESCRIPTOR.services_by_name["NotificationService"].full_name

_STATES: Mapping["FailedNotification.Status.ValueType", frozenset[State]] = {
    FailedNotification.PENDING: frozenset({State.FAILED}),
    FailedNotification.RETRYING: frozenset({State.PENDING, State.IN_FLIGHT}),
    FailedNotification.DELIVERED: frozenset({State.DELIVERED}),
    FailedNotification.SUPERSEDED: frozenset({State.SUPERSEDED}),
}
_STATUSES = {state: status for status, states in _STATES.items() for state in states}
_KINDS = {
    Kind.FIRING: Notification.FIRING,
    Kind.ACKNOWLEDGED: Notification.ACKNOWLEDGED,
    Kind.RESOLVED: Notification.RESOLVED,
}
_BREAKERS = {
    BreakerState.CLOSED: CircuitBreaker.CLOSED,
    BreakerState.OPEN: CircuitBreaker.OPEN,
    BreakerState.HALF_OPEN: CircuitBreaker.HALF_OPEN,
}


class FailedNotificationNotFound(Failure):
    """There is no failed notification with this id."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "FAILED_NOTIFICATION_NOT_FOUND"


class NotificationAlreadyDelivered(Failure):
    """There is nothing to retry any more."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "NOTIFICATION_ALREADY_DELIVERED"


class NotificationRpc(mounting.NotificationServiceServicer):
    """Answers from the database, and of breakers from this process."""

    def __init__(self, failed: FailedOnes, switchboard: Switchboard, clock: Clock, *, fail_max: int) -> None:
        self._failed = failed
        self._switchboard = switchboard
        self._clock = clock
        self._fail_max = fail_max

    def mount(self) -> Mount:
        """For the server."""
        return Mount(NAME, lambda server: mounting.add_NotificationServiceServicer_to_server(self, server))

    async def ListFailedNotifications(  # noqa: N802 - the rpc's name
        self, request: service.ListFailedNotificationsRequest, _context: object
    ) -> service.ListFailedNotificationsResponse:
        """Give one page, the newest failure first."""
        query = _query(request)
        found = await self._failed.page(query)
        page = found[: query.most - 1]
        token = ""
        if len(found) == query.most:
            key = page[-1].failed_at.isoformat(), str(page[-1].delivery.id)
            token = encode_page_token(key, filters=_filters(request))
        return service.ListFailedNotificationsResponse(
            failed_notifications=[_failed_notification(one) for one in page], next_page_token=token
        )

    async def RetryFailedNotification(  # noqa: N802 - the rpc's name
        self, request: service.RetryFailedNotificationRequest, _context: object
    ) -> service.RetryFailedNotificationResponse:
        """Make one due at once."""
        found = await self._failed.retry(_id(request.id), now=self._clock.now())
        if found is None:
            raise FailedNotificationNotFound("no such failed notification", id=request.id)
        if found.delivery.state is State.DELIVERED:
            raise NotificationAlreadyDelivered("the notification was delivered meanwhile", id=request.id)
        if found.delivery.state is State.SUPERSEDED:
            text = "something newer about the alert was delivered instead"
            raise NotificationAlreadyDelivered(text, id=request.id)
        self._switchboard.wake([found.delivery.channel])
        return service.RetryFailedNotificationResponse(failed_notification=_failed_notification(found))

    async def ListCircuitBreakers(  # noqa: N802 - the rpc's name
        self, _request: service.ListCircuitBreakersRequest, _context: object
    ) -> service.ListCircuitBreakersResponse:
        """Give all breakers of this process."""
        breakers = self._switchboard.breakers.items()
        return service.ListCircuitBreakersResponse(
            circuit_breakers=[_circuit_breaker(name, breaker, self._fail_max) for name, breaker in breakers]
        )


def _query(request: service.ListFailedNotificationsRequest) -> FailedQuery:
    violations = []
    size, after = 0, None
    try:
        size = page_size(request.page_size)
    except ValueError as error:
        violations.append(Violation("pageSize", str(error)))
    unknown = [status for status in request.statuses if status not in _STATES]
    if unknown:
        violations.append(Violation("statuses", "must be PENDING, RETRYING, DELIVERED or SUPERSEDED"))
    if "\0" in request.channel:
        violations.append(Violation("channel", "must not contain the character NUL"))
    try:
        after = _after(request)
    except PageTokenError as error:
        violations.append(Violation("pageToken", str(error)))
    if violations:
        raise InvalidRequest("the request holds fields that are wrong", violations=violations)
    wanted = request.statuses or [FailedNotification.PENDING, FailedNotification.RETRYING]
    return FailedQuery(
        states=frozenset[State]().union(*(_STATES[status] for status in wanted)),
        channel=request.channel,
        # One more than asked for shows whether there is another page.
        most=size + 1,
        after=after,
    )


def _after(request: service.ListFailedNotificationsRequest) -> tuple[datetime, UUID] | None:
    key = decode_page_token(request.page_token, filters=_filters(request), width=2)
    if not key:
        return None
    time, identity = key
    try:
        return key_time(time), UUID(identity)
    except ValueError as error:
        raise PageTokenError(str(error)) from error


def _filters(request: service.ListFailedNotificationsRequest) -> str:
    filters = service.ListFailedNotificationsRequest(channel=request.channel, statuses=sorted(set(request.statuses)))
    return filters_of(filters)


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        why = "is required" if not text else "must be a UUID"
        raise InvalidRequest("the id is not usable", violations=[Violation("id", why)]) from None


def _failed_notification(failed: Failed) -> FailedNotification:
    delivery = failed.delivery
    return FailedNotification(
        id=str(delivery.id),
        notification_id=str(delivery.notification_id),
        alert_id=delivery.alert_id,
        kind=_KINDS[delivery.kind],
        channel=delivery.channel,
        status=_STATUSES[delivery.state],
        attempt_count=delivery.attempt_count,
        last_error=delivery.last_error,
        create_time=timestamp_of(failed.failed_at),
        update_time=timestamp_of(failed.updated_at),
    )


def _circuit_breaker(name: str, breaker: Breaker, fail_max: int) -> CircuitBreaker:
    is_open = breaker.state is BreakerState.OPEN
    opened = breaker.opened_at
    return CircuitBreaker(
        channel=name,
        state=_BREAKERS[breaker.state],
        failure_count=breaker.failure_count,
        failure_threshold=fail_max,
        open_time=timestamp_of(opened),
        probe_time=timestamp_of(breaker.retry_at) if is_open else None,
    )
