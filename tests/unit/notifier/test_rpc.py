"""Retrying by hand, with and without a request id."""

import uuid
from dataclasses import replace
from datetime import timedelta

import pytest

from services.chassis.callers import Caller, as_caller
from services.chassis.failures import Failure, InvalidRequest
from services.chassis.request_ids import RequestIdReused
from services.domain.severity import Severity
from services.notifier.core.channels import ChannelSpec
from services.notifier.core.channels.email import EmailSettings
from services.notifier.core.channels.slack import SlackSettings
from services.notifier.core.delivery import Delivery, DeliveryState
from services.notifier.core.routing import Route, Routes
from services.notifier.messages import file_routes_message
from services.notifier.rpc import FailedNotificationNotFound, NotificationAlreadyDelivered, NotificationRpc
from services.notifier.worker.dispatcher import Dispatchers
from tests.fakes.clock import FakeClock
from tests.fakes.notifier import NOW, MemoryDeliveryLog, MemoryFailedDeliveries, failed_delivery
from tocsin.notifications.v1.notification_pb2 import Delivery as DeliveryMessage
from tocsin.notifications.v1.notification_pb2 import FailedNotification, Receiver
from tocsin.notifications.v1.notification_service_pb2 import (
    ListDeliveriesRequest,
    ListFailedNotificationsRequest,
    ListReceiversRequest,
    RetryFailedNotificationRequest,
    RetryFailedNotificationResponse,
)

EMAIL = EmailSettings(
    host="mail", port=25, username="", password="", sender="tocsin@example.com", recipients=("a@example.com",)
)
ROUTES = Routes(
    channels={
        "slack": ChannelSpec(
            name="slack", settings=SlackSettings(url="https://hooks.slack.com/secret"), fallback=("email",)
        ),
        "email": ChannelSpec(name="email", settings=EMAIL),
    },
    receivers={"ops": ("slack", "email")},
    routes=(
        Route(severities=frozenset(Severity), channels=("email",), labels={"team": frozenset({"b|c", "a"})}),
        Route(severities=frozenset({Severity.HIGH, Severity.CRITICAL}), channels=("slack", "email")),
        Route(severities=frozenset({Severity.LOW, Severity.MEDIUM}), channels=("slack",)),
        Route(severities=frozenset({Severity.LOW}), channels=("slack",), labels={"team": frozenset({"d"})}),
    ),
)
REQUEST_ID = str(uuid.UUID(int=77))


class Bench:
    """A servicer, and the store behind it."""

    def __init__(self) -> None:
        self.clock = FakeClock(NOW)
        self.deliveries = MemoryDeliveryLog()
        self.store = MemoryFailedDeliveries(failed_delivery(number=number) for number in (1, 2))
        self.rpc = NotificationRpc(self.deliveries, self.store, Dispatchers(), self.clock, routes=ROUTES, fail_max=3)

    async def retry(self, number: int, request_id: str = REQUEST_ID) -> RetryFailedNotificationResponse:
        request = RetryFailedNotificationRequest(id=str(uuid.UUID(int=number)), request_id=request_id)
        return await self.rpc.RetryFailedNotification(request, None)

    def become(self, number: int, state: DeliveryState) -> None:
        self.store.failed[uuid.UUID(int=number)] = failed_delivery(number=number, state=state)

    def state(self, number: int) -> DeliveryState:
        return self.store.failed[uuid.UUID(int=number)].delivery.state


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_a_retried_one_is_due(bench: Bench) -> None:
    response = await bench.retry(1, request_id="")
    assert response.failed_notification.status == FailedNotification.RETRYING
    assert bench.state(1) is DeliveryState.PENDING
    assert bench.store.requests.rows == {}


async def test_a_repeated_request_does_nothing_and_gets_the_first_response(bench: Bench) -> None:
    first = await bench.retry(1)
    bench.become(1, DeliveryState.FAILED)
    # However the id is written.
    assert await bench.retry(1, request_id=REQUEST_ID.upper().replace("-", "")) == first
    assert bench.state(1) is DeliveryState.FAILED


async def test_after_a_day_the_same_id_is_a_new_request(bench: Bench) -> None:
    await bench.retry(1)
    bench.become(1, DeliveryState.FAILED)
    bench.clock.advance(timedelta(hours=25))
    await bench.retry(1)
    assert bench.state(1) is DeliveryState.PENDING


async def test_an_id_that_was_used_for_another_request_is_refused(bench: Bench) -> None:
    await bench.retry(1)
    with pytest.raises(RequestIdReused):
        await bench.retry(2)
    assert bench.state(2) is DeliveryState.FAILED


@pytest.mark.parametrize(
    ("state", "refusal"),
    [
        pytest.param(DeliveryState.DELIVERED, NotificationAlreadyDelivered, id="delivered"),
        pytest.param(DeliveryState.SUPERSEDED, NotificationAlreadyDelivered, id="superseded"),
        pytest.param(None, FailedNotificationNotFound, id="unknown"),
    ],
)
async def test_a_refusal_is_not_kept(bench: Bench, state: DeliveryState | None, refusal: type[Failure]) -> None:
    if state is not None:
        bench.become(1, state)
    else:
        bench.store.failed.clear()
    with pytest.raises(refusal):
        await bench.retry(1)
    bench.become(1, DeliveryState.FAILED)
    await bench.retry(1)
    assert bench.state(1) is DeliveryState.PENDING


def listed(number: int, state: DeliveryState = DeliveryState.DELIVERED) -> Delivery:
    delivery = failed_delivery(number=number, state=state).delivery
    return replace(delivery, create_time=NOW + timedelta(minutes=number), recipient="https://hooks.slack.com")


async def test_deliveries_are_listed_page_by_page(bench: Bench) -> None:
    bench.deliveries.deliveries = [listed(number) for number in range(1, 6)]
    request = ListDeliveriesRequest(page_size=2)
    seen: list[DeliveryMessage] = []
    while True:
        page = await bench.rpc.ListDeliveries(request, None)
        seen += page.deliveries
        request.page_token = page.next_page_token
        if not request.page_token:
            break
    assert [uuid.UUID(one.id).int for one in seen] == [5, 4, 3, 2, 1]
    assert (seen[0].state, seen[0].recipient) == (DeliveryMessage.DELIVERED, "https://hooks.slack.com")
    assert (seen[0].alert_id, seen[0].channel, seen[0].attempt_count) == ("alert-5", "slack", 1)


@pytest.mark.parametrize(
    ("request_", "numbers"),
    [
        pytest.param(ListDeliveriesRequest(alert_id="alert-1"), [1], id="alert"),
        pytest.param(ListDeliveriesRequest(states=[DeliveryMessage.FAILED]), [2], id="state"),
        pytest.param(ListDeliveriesRequest(channel="email"), [], id="channel"),
    ],
)
async def test_deliveries_are_filtered(bench: Bench, request_: ListDeliveriesRequest, numbers: list[int]) -> None:
    bench.deliveries.deliveries = [listed(1), listed(2, DeliveryState.FAILED)]
    found = (await bench.rpc.ListDeliveries(request_, None)).deliveries
    assert [uuid.UUID(one.id).int for one in found] == numbers


@pytest.mark.parametrize(
    ("request_", "fields"),
    [
        pytest.param(ListDeliveriesRequest(page_size=-1, page_token="x"), ["pageSize", "pageToken"], id="page"),
        pytest.param(
            ListDeliveriesRequest(states=[DeliveryMessage.FAILED, DeliveryMessage.STATE_UNSPECIFIED]),
            ["states[1]"],
            id="state",
        ),
        pytest.param(ListDeliveriesRequest(channel="a\0", alert_id="\0"), ["channel", "alertId"], id="NUL"),
    ],
)
async def test_a_wrong_field_is_named(bench: Bench, request_: ListDeliveriesRequest, fields: list[str]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await bench.rpc.ListDeliveries(request_, None)
    assert [violation.field for violation in refused.value.violations] == fields


async def test_failed_ones_are_found_by_the_beginning_of_their_id(bench: Bench) -> None:
    request = ListFailedNotificationsRequest(id_prefix=str(uuid.UUID(int=2)))
    found = await bench.rpc.ListFailedNotifications(request, None)
    assert [uuid.UUID(one.id).int for one in found.failed_notifications] == [2]
    with pytest.raises(InvalidRequest):
        await bench.rpc.ListFailedNotifications(ListFailedNotificationsRequest(id_prefix="0" * 37), None)


async def test_a_request_id_must_be_a_uuid(bench: Bench) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await bench.retry(1, request_id="one")
    assert [violation.field for violation in refused.value.violations] == ["requestId"]


async def test_receivers_are_listed_with_their_channels_and_no_secret(bench: Bench) -> None:
    found = await bench.rpc.ListReceivers(ListReceiversRequest(), None)
    email = Receiver.Channel(name="email", kind="email", recipient="a@example.com")
    slack = Receiver.Channel(name="slack", kind="slack", recipient="https://hooks.slack.com", fallback=["email"])
    assert list(found.receivers) == [
        Receiver(name="email", channels=[email], is_channel=True),
        Receiver(name="ops", channels=[slack, email]),
        Receiver(name="slack", channels=[slack], is_channel=True),
    ]
    assert found.file_routes.root.receivers == ["slack"]
    assert [(list(route.matchers), list(route.receivers)) for route in found.file_routes.root.routes] == [
        ([r'team=~"a|b\\|c"'], ["email"]),
        (['severity=~"CRITICAL|HIGH"'], ["slack", "email"]),
        (['severity=~"MEDIUM|LOW"'], ["slack"]),
        (['severity="LOW"', 'team="d"'], ["slack"]),
    ]


def test_a_file_without_routes_has_no_tree() -> None:
    assert file_routes_message(Routes(channels={})) is None


async def test_receivers_and_breakers_of_another_tenant_are_not_shown(bench: Bench) -> None:
    for caller, asked, shown in (
        (Caller(name="k", role="viewer", kind="key", tenant="acme"), "", []),
        (Caller(name="k", role="viewer", kind="key", tenant="acme"), "default", []),
        (Caller(name="manager", role="service", kind="service"), "acme", []),
        (Caller(name="manager", role="service", kind="service"), "", ["email", "ops", "slack"]),
    ):
        with as_caller(caller):
            response = await bench.rpc.ListReceivers(ListReceiversRequest(tenant=asked), None)
        assert [each.name for each in response.receivers] == shown
        assert response.HasField("file_routes") is bool(shown)
