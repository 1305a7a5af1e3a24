"""Silences, from the call to who is notified, on real servers."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest

from services.contract.timestamps import timestamp_of
from services.manager.settings import Settings
from tests.integration.manager.conftest import Run, World, again, transition, until
from tests.integration.manager.processes import process, serving
from tests.integration.manager.refusals import refusal
from tocsin.alerts.v1.alert_pb2 import Alert
from tocsin.notifications.v1.notification_pb2 import Notification
from tocsin.silences.v1 import silence_service_pb2 as pb
from tocsin.silences.v1.silence_pb2 import Silence

pytestmark = pytest.mark.integration


def a_silence(**changed: Any) -> Silence:
    values = {
        "matchers": ['service="payment-service"'],
        "author": "ann",
        "comment": "a deployment",
        "end_time": timestamp_of(datetime.now(UTC) + timedelta(hours=1)),
    }
    return Silence(**values | changed)  # type: ignore[arg-type]


async def add(world: World, silence: Silence) -> Silence:
    created: Silence = (await world.silences.CreateSilence(pb.CreateSilenceRequest(silence=silence))).silence
    return created


async def expire(world: World, silence: Silence) -> pb.ExpireSilenceResponse:
    request = pb.ExpireSilenceRequest(id=silence.id, etag=silence.etag, request_id=str(uuid.uuid4()))
    response: pb.ExpireSilenceResponse = await world.silences.ExpireSilence(request)
    return response


async def silenced(world: World, count: int = 1) -> list[Alert]:
    async def found() -> list[Alert]:
        alerts = [alert for alert in await world.listed() if alert.silenced_by]
        return alerts if len(alerts) >= count else []

    return await until(found)


async def kinds(world: World, count: int) -> list[tuple[str, str]]:
    found = await world.notifications(count)
    return [(each.alert.resource, Notification.Kind.Name(each.kind)) for each, _ in found]


async def test_nobody_is_notified_until_the_silence_ends_and_then_once(world: World) -> None:
    await add(world, a_silence(matchers=["team=other"]))
    other = await add(world, a_silence(matchers=['team="payments"', "alertname!=x"]))
    await world.publish(transition())
    (alert,) = await silenced(world)
    assert list(alert.silenced_by) == [other.id]
    assert await world.history(alert.id) == ["FIRED", "SILENCED"]
    await world.relayed()
    assert await world.value("select not is_notified from alerts")
    ended = await expire(world, other)
    assert (ended.silence.state, ended.unchanged) == (Silence.EXPIRED, False)
    assert (await expire(world, other)).unchanged
    assert await kinds(world, 1) == [("payment-service", "FIRING")]
    assert (await world.listed())[0].silenced_by == []


async def test_calls_are_answered_and_refused_clearly(world: World) -> None:
    request = pb.CreateSilenceRequest(silence=a_silence(), request_id=str(uuid.uuid4()))
    checked = await world.silences.CreateSilence(pb.CreateSilenceRequest(silence=a_silence(), validate_only=True))
    assert (checked.silence.id, checked.silence.matchers) == ("", ['service="payment-service"'])
    first, second = [await world.silences.CreateSilence(request) for _ in range(2)]
    assert first == second
    listed = await world.silences.ListSilences(pb.ListSilencesRequest(states=[Silence.ACTIVE, Silence.PENDING]))
    assert list(listed.silences) == [first.silence]
    await add(world, a_silence(start_time=timestamp_of(datetime.now(UTC) + timedelta(minutes=9))))
    pending = await world.silences.ListSilences(pb.ListSilencesRequest(states=[Silence.PENDING], page_size=1))
    assert [each.state for each in pending.silences] == [Silence.PENDING]
    whole: list[str] = []
    page = pb.ListSilencesRequest(page_size=1)
    while not whole or page.page_token:
        answer = await world.silences.ListSilences(page)
        whole += [each.id for each in answer.silences]
        page.page_token = answer.next_page_token
    assert len(whole) == len(set(whole)) == 2
    got = await world.silences.GetSilence(pb.GetSilenceRequest(id=first.silence.id))
    assert got.silence == first.silence
    for call, fields in (
        (world.silences.CreateSilence(pb.CreateSilenceRequest(silence=a_silence(matchers=["a=~("]))), ["matchers[0]"]),
        (world.silences.CreateSilence(pb.CreateSilenceRequest(silence=a_silence(author="", comment=""))), None),
        (world.silences.ListSilences(pb.ListSilencesRequest(page_token="x")), ["pageToken"]),
        (world.silences.ListSilences(pb.ListSilencesRequest(states=[9])), ["states[0]"]),  # type: ignore[list-item]
        (world.silences.PreviewSilence(pb.PreviewSilenceRequest()), ["matchers"]),
    ):
        refused = await refusal(call)
        assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
        assert list(refused.fields) == (fields or ["author", "comment"])
    missing = await refusal(world.silences.GetSilence(pb.GetSilenceRequest(id="x")))
    assert (missing.code, missing.reason) == (grpc.StatusCode.NOT_FOUND, "SILENCE_NOT_FOUND")
    etag = await refusal(world.silences.ExpireSilence(pb.ExpireSilenceRequest(id=first.silence.id, etag="x")))
    assert etag.code is grpc.StatusCode.ABORTED


async def test_no_more_silences_than_the_maximum_are_kept_at_once(world: World) -> None:
    first = await add(world, a_silence())
    copied = await world.value("""
        WITH copies AS (
            INSERT INTO silences
            SELECT (jsonb_populate_record(s, jsonb_build_object('id', gen_random_uuid()))).*
            FROM silences AS s, generate_series(2, 10000)
            RETURNING 1
        )
        SELECT count(*) FROM copies
    """)
    assert copied == 9_999
    full = await refusal(add(world, a_silence()))
    assert (full.code, full.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "TOO_MANY_SILENCES")
    await expire(world, first)
    await add(world, a_silence())


async def test_named_alerts_are_silenced_until_they_are_resolved(world: World) -> None:
    await world.publish(transition())
    await world.processed(1)
    (alert,) = await world.listed()
    preview = await world.silences.PreviewSilence(
        pb.PreviewSilenceRequest(silence=Silence(matchers=["severity=CRITICAL"]))
    )
    assert [each.id for each in preview.alerts] == [alert.id]
    assert (preview.open_alert_count, preview.recent_alert_count) == (1, 0)
    silence = await add(world, Silence(alert_ids=[alert.id], author="ann", comment="known"))
    assert [each.id for each in await silenced(world)] == [alert.id]
    await world.publish(transition("RESOLVED", window=1))

    async def is_expired() -> bool:
        answer = await world.silences.GetSilence(pb.GetSilenceRequest(id=silence.id))
        return bool(answer.silence.state == Silence.EXPIRED)

    await until(is_expired)
    assert await kinds(world, 2) == [("payment-service", "FIRING"), ("payment-service", "RESOLVED")]
    resolved = await refusal(
        world.silences.CreateSilence(
            pb.CreateSilenceRequest(silence=Silence(alert_ids=[alert.id], author="ann", comment="known"))
        )
    )
    assert resolved.fields == ("alertIds[0]",)


@pytest.mark.timeout(120)
async def test_two_managers_and_a_kill_in_between_notify_once(settings: Settings, running: Run) -> None:
    async with running(settings) as world:
        silence = await add(world, a_silence(matchers=["alertname=~.*, severity=CRITICAL"]))
        names = [f"service-{number}" for number in range(40)]
        await world.publish(*(transition(resource=name) for name in names))
        await silenced(world, len(names))
        other = again(settings)
        async with process(other) as second:
            await until(lambda: serving(other), within=40)
            # Both notice it; one dies at about this moment.
            await expire(world, silence)
            second.kill()
            found = await kinds(world, len(names))
    assert sorted(found) == sorted((name, "FIRING") for name in names)
