"""Retrying by hand, with and without a request id."""

import uuid
from datetime import timedelta

import pytest

from services.chassis.failures import Failure, InvalidRequest
from services.chassis.request_ids import RequestIdReused
from services.notifier.core.delivery import DeliveryState
from services.notifier.rpc import FailedNotificationNotFound, NotificationAlreadyDelivered, NotificationRpc
from services.notifier.worker.dispatcher import Dispatchers
from tests.fakes.clock import FakeClock
from tests.fakes.notifier import NOW, MemoryFailedDeliveries, failed_delivery
from tocsin.notifications.v1.notification_pb2 import FailedNotification
from tocsin.notifications.v1.notification_service_pb2 import (
    RetryFailedNotificationRequest,
    RetryFailedNotificationResponse,
)

REQUEST_ID = str(uuid.UUID(int=77))


class Bench:
    """A servicer, and the store behind it."""

    def __init__(self) -> None:
        self.clock = FakeClock(NOW)
        self.store = MemoryFailedDeliveries(failed_delivery(number=number) for number in (1, 2))
        self.rpc = NotificationRpc(self.store, Dispatchers(), self.clock, fail_max=3)

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


async def test_a_request_id_must_be_a_uuid(bench: Bench) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await bench.retry(1, request_id="one")
    assert [violation.field for violation in refused.value.violations] == ["requestId"]
