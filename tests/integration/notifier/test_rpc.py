"""NotificationService, and what can be seen of a running notifier."""

import asyncio
import uuid
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, cast

import aiohttp
import asyncpg
import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.chassis.telemetry import exposition, telemetry
from services.contract.paging import encode_page_token, filters_of
from services.notifier.settings import Settings
from stack.sinks import Behaviour, Sinks
from tests.fakes.notifications import notification
from tests.integration.notifier.conftest import World, run_notifier
from tocsin.notifications.v1.notification_pb2 import CircuitBreaker, FailedNotification
from tocsin.notifications.v1.notification_service_pb2 import (
    ListCircuitBreakersRequest,
    ListFailedNotificationsRequest,
    RetryFailedNotificationRequest,
)
from tocsin.rules.v1.alert_rule_pb2 import AlertRule

pytestmark = pytest.mark.integration

Run = Callable[[], AbstractAsyncContextManager[World]]
NO_STATUS = FailedNotification.STATUS_UNSPECIFIED
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
NO_UUID = encode_page_token(("2026-01-01T00:00:00+00:00", "x"), filters=filters_of(ListFailedNotificationsRequest()))


def details(error: grpc.aio.AioRpcError) -> tuple[str, list[str]]:
    """The reason and the fields of a refused call."""
    status = rpc_status.from_call(cast("grpc.Call", error))
    info, fields = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in status.details if status else []:
        _ = detail.Unpack(info) or detail.Unpack(fields)
    return info.reason, [one.field for one in fields.field_violations]


async def test_paging_visits_each_failed_notification_once(world: World) -> None:
    world.sinks.journal.behave("slack", Behaviour(status=400))
    alerts = {f"alert-{number}" for number in range(7)}
    await world.publish(*[notification(alert=alert, severity=AlertRule.MEDIUM) for alert in alerts])
    await world.until("SELECT 1 FROM failed_notifications HAVING count(*) = 7")
    seen: list[FailedNotification] = []
    request = ListFailedNotificationsRequest(page_size=3, channel="slack")
    while True:
        page = await world.rpc.ListFailedNotifications(request)
        seen += page.failed_notifications
        request.page_token = page.next_page_token
        if not page.next_page_token:
            break
    assert sorted(one.alert_id for one in seen) == sorted(alerts)
    times = [one.create_time.ToDatetime() for one in seen]
    assert times == sorted(times, reverse=True)
    other = await world.rpc.ListFailedNotifications(ListFailedNotificationsRequest(channel="email"))
    assert (len(other.failed_notifications), other.next_page_token) == (0, "")
    delivered = ListFailedNotificationsRequest(statuses=[FailedNotification.DELIVERED])
    assert len((await world.rpc.ListFailedNotifications(delivered)).failed_notifications) == 0


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        pytest.param(ListFailedNotificationsRequest(page_size=-1), "pageSize", id="negative size"),
        pytest.param(ListFailedNotificationsRequest(page_token="x"), "pageToken", id="made-up token"),
        pytest.param(ListFailedNotificationsRequest(page_token=NO_UUID), "pageToken", id="token without id"),
        pytest.param(ListFailedNotificationsRequest(channel="a\0"), "channel", id="NUL"),
        pytest.param(ListFailedNotificationsRequest(statuses=[NO_STATUS]), "statuses[0]", id="no status"),
    ],
)
async def test_a_wrong_field_is_named(world: World, request_: ListFailedNotificationsRequest, field: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await world.rpc.ListFailedNotifications(request_)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert details(refused.value) == ("INVALID_REQUEST", [field])


async def test_a_retry_that_is_refused_says_why(world: World, alert: str) -> None:
    async def refused(identity: str) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await world.rpc.RetryFailedNotification(RetryFailedNotificationRequest(id=identity))
        return error.value.code(), details(error.value)[0]

    assert await refused("7") == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert await refused(str(uuid.uuid4())) == (grpc.StatusCode.NOT_FOUND, "FAILED_NOTIFICATION_NOT_FOUND")
    world.sinks.journal.behave("slack", Behaviour(status=500, times=3))
    await world.publish(notification(alert=alert, severity=AlertRule.MEDIUM))
    [row] = await world.until("SELECT id FROM failed_notifications WHERE status = 'DELIVERED'")
    assert await refused(str(row["id"])) == (grpc.StatusCode.FAILED_PRECONDITION, "NOTIFICATION_ALREADY_DELIVERED")


async def test_a_repeated_request_retries_once_and_gets_the_first_response(world: World, alert: str) -> None:
    world.sinks.journal.behave("slack", Behaviour(status=400, times=1))
    world.sinks.journal.behave("email", Behaviour(status=554, times=1))
    await world.publish(notification(alert=alert, severity=AlertRule.HIGH))
    await world.until("SELECT 1 FROM failed_notifications HAVING count(*) = 2")
    slack, email = await world.rows("SELECT id FROM failed_notifications ORDER BY channel DESC")
    request = RetryFailedNotificationRequest(id=str(slack["id"]), request_id=str(uuid.uuid4()))
    first = await world.rpc.RetryFailedNotification(request)
    await world.until("SELECT 1 FROM failed_notifications WHERE channel = 'slack' AND status = 'DELIVERED'")
    # Without the id this one would be refused now: it was delivered.
    assert await world.rpc.RetryFailedNotification(request) == first
    assert first.failed_notification.status == FailedNotification.RETRYING
    assert len(world.sinks.journal.accepted("slack")) == 1
    other = RetryFailedNotificationRequest(id=str(email["id"]), request_id=request.request_id)
    with pytest.raises(grpc.aio.AioRpcError) as reused:
        await world.rpc.RetryFailedNotification(other)
    assert reused.value.code() is grpc.StatusCode.ALREADY_EXISTS
    assert details(reused.value) == ("REQUEST_ID_REUSED", [])
    with pytest.raises(grpc.aio.AioRpcError) as wrong:
        await world.rpc.RetryFailedNotification(RetryFailedNotificationRequest(id=str(email["id"]), request_id="one"))
    assert details(wrong.value) == ("INVALID_REQUEST", ["requestId"])


async def test_breakers_are_listed_by_name(world: World) -> None:
    answer = await world.rpc.ListCircuitBreakers(ListCircuitBreakersRequest())
    assert [one.channel for one in answer.circuit_breakers] == ["email", "pagerduty", "slack", "webhook"]
    assert {(one.state, one.failure_count, one.failure_threshold) for one in answer.circuit_breakers} == {
        (CircuitBreaker.CLOSED, 0, 3)
    }


async def test_health_is_serving_once_it_is_ready(world: World) -> None:
    stub = cast("Any", health_pb2_grpc.HealthStub(world.calls))
    async with asyncio.timeout(15):
        while True:
            answer = await stub.Check(health_pb2.HealthCheckRequest())
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                break
            await asyncio.sleep(0.05)


async def test_the_trace_of_the_alert_goes_on_to_the_channel(running: Run, alert: str) -> None:
    exporter = InMemorySpanExporter()
    with telemetry("notifier", "notifier-1", "", processors=[SimpleSpanProcessor(exporter)]):
        async with running() as world:
            sent = notification(alert=alert, severity=AlertRule.MEDIUM)
            await world.publish(sent, headers=(("traceparent", PARENT.encode()),))
            await world.sinks.journal.until(lambda journal: journal.accepted("slack"))
            await world.until("SELECT 1 FROM deliveries WHERE state = 'DELIVERED'")
        [slack] = world.sinks.journal.accepted("slack")
        [span] = [one for one in exporter.get_finished_spans() if one.name == "deliver slack"]
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == PARENT.split("-")[2]
    context = span.get_span_context()
    assert context is not None
    assert slack.headers["traceparent"] == f"{PARENT[:35]}-{context.span_id:016x}-01"


async def test_metrics_are_there_from_the_start_and_count(running: Run, alert: str) -> None:
    with telemetry("notifier", "notifier-1", ""):
        async with running() as world:
            begin = exposition()[0].decode()
            assert 'notifications_sent_total{channel="email",reason="DELIVERED",status="success"} 0.0' in begin
            assert 'notifications_sent_total{channel="slack",reason="REFUSED",status="failure"} 0.0' in begin
            assert 'tocsin_notifier_breaker_state{channel="slack"} 0.0' in begin
            world.sinks.journal.behave("slack", Behaviour(status=500))
            await world.publish(notification(alert=alert, severity=AlertRule.MEDIUM))
            await world.sinks.journal.until(lambda journal: journal.accepted("email"))
            await world.until("SELECT 1 FROM deliveries WHERE channel = 'email' AND state = 'DELIVERED'")
            await world.until("SELECT 1 FROM deliveries WHERE channel = 'slack' AND state = 'FAILED'")
            end = exposition()[0].decode()
    assert 'notifications_sent_total{channel="email",reason="DELIVERED",status="success"} 1.0' in end
    assert 'notifications_sent_total{channel="slack",reason="ATTEMPTS_EXHAUSTED",status="failure"} 1.0' in end
    assert 'tocsin_notifier_retries_total{channel="slack"} 2.0' in end
    assert 'tocsin_notifier_breaker_state{channel="slack"} 2.0' in end
    assert 'tocsin_notifier_notification_latency_seconds_count{channel="email",kind="FIRING"} 1.0' in end
    assert alert not in end


async def test_the_sinks_show_what_came(world: World, alert: str) -> None:
    await world.publish(notification(alert=alert, severity=AlertRule.LOW))
    await world.sinks.journal.until(lambda journal: journal.accepted("webhook"))
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{world.sinks.url}/deliveries?channel=webhook") as answer,
    ):
        [shown] = (await answer.json())["deliveries"]
    assert (shown["alert"], shown["kind"], shown["isAccepted"]) == (alert, "FIRING", True)


async def test_failed_notifications_are_found_without_naming_a_schema(world: World, alert: str) -> None:
    world.sinks.journal.behave("slack", Behaviour(status=400))
    await world.publish(notification(alert=alert, severity=AlertRule.MEDIUM))
    await world.until("SELECT 1 FROM deliveries WHERE state = 'FAILED'")
    connection = await asyncpg.connect(world.settings.postgres.database_url.reveal())
    try:
        found = await connection.fetch("SELECT * FROM failed_notifications WHERE status = 'PENDING'")
    finally:
        await connection.close()
    assert [row["alert_id"] for row in found] == [alert]


async def test_a_search_path_that_somebody_has_set_stays_and_does_no_harm(
    database: str, settings: Settings, sinks: Sinks, alert: str
) -> None:
    connection = await asyncpg.connect(database)
    try:
        name = await connection.fetchval("SELECT current_database()")
        await connection.execute(f'ALTER DATABASE "{name}" SET search_path = elsewhere')
        async with run_notifier(settings, sinks) as world:
            await world.publish(notification(alert=alert, severity=AlertRule.LOW))
            await sinks.journal.until(lambda journal: journal.accepted("webhook"))
    finally:
        await connection.close()
    connection = await asyncpg.connect(database)
    assert await connection.fetchval("SHOW search_path") == "elsewhere"
    await connection.close()
