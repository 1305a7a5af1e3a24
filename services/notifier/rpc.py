"""NotificationService: deliveries, failed notifications, receivers and breakers."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

import grpc

from services.chassis.breaker import Breaker, BreakerState
from services.chassis.callers import current_caller
from services.chassis.clock import Clock
from services.chassis.failures import Failure, InvalidRequest, Violation
from services.chassis.grpc_server import Mount
from services.chassis.request_ids import respond_once
from services.chassis.tenants import current_tenant, tenant_served
from services.contract.paging import (
    PageTokenError,
    decode_page_token,
    encode_page_token,
    filters_of,
    key_time,
    page_size,
    shown_rows,
)
from services.contract.timestamps import timestamp_of
from services.domain.found_values import expected
from services.domain.tenants import read_tenant
from services.notifier.core.delivery import DeliveryState
from services.notifier.core.routing import Routes
from services.notifier.messages import (
    STATES,
    delivery_message,
    failed_notification,
    file_routes_message,
    receiver_messages,
)
from services.notifier.ports import (
    DeliveryLog,
    DeliveryQuery,
    FailedDeliveries,
    FailedDeliveryQuery,
    RetryTransaction,
)
from services.notifier.worker.dispatcher import Dispatchers
from tocsin.notifications.v1 import notification_service_pb2 as service
from tocsin.notifications.v1 import notification_service_pb2_grpc as mounting
from tocsin.notifications.v1.notification_pb2 import CircuitBreaker, FailedNotification
from tocsin.notifications.v1.notification_pb2 import Delivery as DeliveryMessage

_SERVICE = service.DESCRIPTOR.services_by_name["NotificationService"].full_name

_MAX_ID = 36

_BREAKER_STATES = {
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


class ChannelRemoved(Failure):
    """Nothing is sent to the channel any more."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "CHANNEL_REMOVED"


class NotificationRpc(mounting.NotificationServiceServicer):
    """Answers from the database, of breakers from this process, and of receivers from the routes file."""

    def __init__(
        self,
        deliveries: DeliveryLog,
        failed: FailedDeliveries,
        dispatchers: Dispatchers,
        clock: Clock,
        *,
        routes: Routes,
        fail_max: int,
    ) -> None:
        self._deliveries = deliveries
        self._failed = failed
        self._dispatchers = dispatchers
        self._clock = clock
        self._routes = routes
        self._fail_max = fail_max

    def mount(self) -> Mount:
        return Mount(_SERVICE, lambda server: mounting.add_NotificationServiceServicer_to_server(self, server))

    async def ListFailedNotifications(  # noqa: N802 - the rpc's name
        self, request: service.ListFailedNotificationsRequest, _context: object
    ) -> service.ListFailedNotificationsResponse:
        query = _failed_query(request)
        deliveries = await self._failed.list_page(query)
        shown, last = shown_rows(
            deliveries, query.limit - 1, lambda failed: (failed.fail_time.isoformat(), str(failed.delivery.id))
        )
        return service.ListFailedNotificationsResponse(
            failed_notifications=[failed_notification(failed) for failed in shown],
            next_page_token=encode_page_token(last, filters=_filters(request)),
        )

    async def ListDeliveries(  # noqa: N802 - the rpc's name
        self, request: service.ListDeliveriesRequest, _context: object
    ) -> service.ListDeliveriesResponse:
        query = _delivery_query(request)
        listed = await self._deliveries.list_page(query)
        shown, last = shown_rows(
            listed, query.limit - 1, lambda each: (each.delivery.create_time.isoformat(), str(each.delivery.id))
        )
        return service.ListDeliveriesResponse(
            deliveries=map(delivery_message, shown), next_page_token=encode_page_token(last, filters=_filters(request))
        )

    async def RetryFailedNotification(  # noqa: N802 - the rpc's name
        self, request: service.RetryFailedNotificationRequest, _context: object
    ) -> service.RetryFailedNotificationResponse:
        delivery_id, now = _uuid("id", request.id), self._clock.now()

        async def retry(transaction: RetryTransaction) -> service.RetryFailedNotificationResponse:
            act = partial(self._retry, transaction, delivery_id, now)
            response_type = service.RetryFailedNotificationResponse
            return await respond_once(request, transaction.requests, response_type, act, now=now)

        response = await self._failed.in_transaction(retry)
        self._dispatchers.wake([response.failed_notification.channel])
        return response

    async def _retry(
        self, transaction: RetryTransaction, delivery_id: UUID, now: datetime
    ) -> service.RetryFailedNotificationResponse:
        failed = await transaction.make_due(delivery_id, now=now)
        if failed is None:
            raise FailedNotificationNotFound("no such failed notification", id=str(delivery_id))
        if failed.delivery.state is DeliveryState.DELIVERED:
            raise NotificationAlreadyDelivered("the notification was delivered meanwhile", id=str(delivery_id))
        if failed.delivery.state is DeliveryState.SUPERSEDED:
            text = "something newer about the alert or incident was delivered instead"
            raise NotificationAlreadyDelivered(text, id=str(delivery_id))
        if (channel := failed.delivery.channel) not in self._routes.channels:
            raise ChannelRemoved(f"the routes file does not name the channel {channel} any more", channel=channel)
        return service.RetryFailedNotificationResponse(failed_notification=failed_notification(failed))

    async def ListCircuitBreakers(  # noqa: N802 - the rpc's name
        self, _request: service.ListCircuitBreakersRequest, _context: object
    ) -> service.ListCircuitBreakersResponse:
        shown = self._routes.of_tenant(current_tenant()).channels
        return service.ListCircuitBreakersResponse(
            circuit_breakers=[
                _circuit_breaker(name, breaker, self._fail_max)
                for name, breaker in self._dispatchers.breakers.items()
                if name in shown
            ]
        )

    async def ListReceivers(  # noqa: N802 - the rpc's name
        self, request: service.ListReceiversRequest, _context: object
    ) -> service.ListReceiversResponse:
        routes = self._routes.of_tenant(tenant_served(current_caller(), read_tenant(request.tenant)))
        return service.ListReceiversResponse(
            receivers=receiver_messages(routes), file_routes=file_routes_message(routes)
        )


_ListRequest = service.ListFailedNotificationsRequest | service.ListDeliveriesRequest


def _failed_query(request: service.ListFailedNotificationsRequest) -> FailedDeliveryQuery:
    violations = _text_violations(channel=request.channel, idPrefix=request.id_prefix)
    known = {number: name for name, number in FailedNotification.Status.items() if number in STATES}
    violations += _choice_violations("statuses", request.statuses, known)
    limit, after = _page(request, violations)
    statuses = request.statuses or [FailedNotification.PENDING, FailedNotification.RETRYING]
    return FailedDeliveryQuery(
        states=frozenset[DeliveryState]().union(*(STATES[status] for status in statuses)),
        channel=request.channel,
        limit=limit,
        after=after,
        id_prefix=request.id_prefix.lower(),
    )


def _delivery_query(request: service.ListDeliveriesRequest) -> DeliveryQuery:
    violations = _text_violations(channel=request.channel, alertId=request.alert_id, incidentId=request.incident_id)
    known = {DeliveryMessage.State.Value(state.value): state for state in DeliveryState}
    violations += _choice_violations("states", request.states, known)
    limit, after = _page(request, violations)
    states = frozenset(known[state] for state in request.states)
    return DeliveryQuery(
        states=states,
        channel=request.channel,
        alert_id=request.alert_id,
        incident_id=request.incident_id,
        limit=limit,
        after=after,
    )


def _text_violations(**texts: str) -> list[Violation]:
    violations = [Violation(name, "must not contain the character NUL") for name, text in texts.items() if "\0" in text]
    if len(texts.get("idPrefix", "")) > _MAX_ID:
        violations.append(Violation("idPrefix", f"is longer than {_MAX_ID} characters"))
    return violations


def _page(request: _ListRequest, violations: list[Violation]) -> tuple[int, tuple[datetime, UUID] | None]:
    """Return how many rows to read and after which; InvalidRequest names all fields that are wrong."""
    size, after = 0, None
    try:
        size = page_size(request.page_size)
    except ValueError as error:
        violations.append(Violation("pageSize", str(error)))
    try:
        after = _after(request)
    except PageTokenError as error:
        violations.append(Violation("pageToken", str(error)))
    if violations:
        raise InvalidRequest("the request has fields that are wrong", violations=violations)
    # One more than requested shows whether there is another page.
    return size + 1, after


def _after(request: _ListRequest) -> tuple[datetime, UUID] | None:
    key = decode_page_token(request.page_token, filters=_filters(request), width=2)
    if not key:
        return None
    time, last_id = key
    try:
        return key_time(time), UUID(last_id)
    except ValueError as error:
        raise PageTokenError(str(error)) from error


def _filters(request: _ListRequest) -> str:
    """Return what is asked for, however often and in whatever order the states are named."""
    filters = deepcopy(request)
    if isinstance(filters, service.ListDeliveriesRequest):
        filters.states[:] = sorted(set(filters.states))
    else:
        filters.statuses[:] = sorted(set(filters.statuses))
    return filters_of(filters)


def _choice_violations(field: str, values: Sequence[int], known: Mapping[Any, str]) -> list[Violation]:
    words = ", ".join(known.values())
    return [
        Violation(f"{field}[{n}]", f"found {each}, expected one of {words}")
        for n, each in enumerate(values)
        if each not in known
    ]


def _uuid(field: str, text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        why = expected("a UUID", text) if text else "is required"
        raise InvalidRequest(f"not allowed: {field}", violations=[Violation(field, why)]) from None


def _circuit_breaker(name: str, breaker: Breaker, fail_max: int) -> CircuitBreaker:
    is_open = breaker.state is BreakerState.OPEN
    return CircuitBreaker(
        channel=name,
        state=_BREAKER_STATES[breaker.state],
        failure_count=breaker.failure_count,
        failure_threshold=fail_max,
        open_time=timestamp_of(breaker.opened_at),
        probe_time=timestamp_of(breaker.retry_at) if is_open else None,
    )
