from datetime import UTC, datetime
from uuid import UUID

import pytest

from services.chassis.failures import InvalidRequest, Violation
from services.chassis.request_ids import RequestIdReused, request_id_of, respond_once
from tests.fakes.requests import MemoryRequests
from tocsin.notifications.v1.notification_pb2 import FailedNotification
from tocsin.notifications.v1.notification_service_pb2 import (
    RetryFailedNotificationRequest,
    RetryFailedNotificationResponse,
)

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
REQUEST_ID = str(UUID(int=7))


class Bench:
    """Counts how often it acted."""

    def __init__(self) -> None:
        self.requests = MemoryRequests()
        self.count = 0

    async def respond(self, request: RetryFailedNotificationRequest) -> RetryFailedNotificationResponse:
        return await respond_once(request, self.requests, RetryFailedNotificationResponse, self.act, now=NOW)

    async def act(self) -> RetryFailedNotificationResponse:
        self.count += 1
        return RetryFailedNotificationResponse(failed_notification=FailedNotification(attempt_count=self.count))


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_without_an_id_each_call_acts(bench: Bench) -> None:
    for _ in range(2):
        await bench.respond(RetryFailedNotificationRequest(id="a"))
    assert (bench.count, bench.requests.rows) == (2, {})


async def test_a_repeated_call_acts_once_and_gets_the_first_response(bench: Bench) -> None:
    request = RetryFailedNotificationRequest(id="a", request_id=REQUEST_ID)
    first = await bench.respond(request)
    again = RetryFailedNotificationRequest(id="a", request_id=REQUEST_ID.replace("-", ""))
    assert await bench.respond(again) == first
    assert bench.count == 1


async def test_an_id_of_another_request_is_refused(bench: Bench) -> None:
    await bench.respond(RetryFailedNotificationRequest(id="a", request_id=REQUEST_ID))
    with pytest.raises(RequestIdReused):
        await bench.respond(RetryFailedNotificationRequest(id="b", request_id=REQUEST_ID))
    assert bench.count == 1


async def test_the_digest_stays_the_same_from_release_to_release(bench: Bench) -> None:
    await bench.respond(RetryFailedNotificationRequest(id="a", request_id=REQUEST_ID))
    ((_, digest, _),) = bench.requests.rows.values()
    assert digest == "391ddd2e9d5dd0dfd191bb4f82613db4"


def test_an_id_must_be_a_uuid() -> None:
    with pytest.raises(InvalidRequest) as refused:
        request_id_of(RetryFailedNotificationRequest(request_id="one"))
    assert refused.value.violations == (Violation("requestId", 'expected a UUID, found "one"'),)
