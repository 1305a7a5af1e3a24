"""People, schedules and policies on real servers: written through one manager, known to another one."""

import uuid
from datetime import UTC, datetime, timedelta

import grpc
import pytest

from services.contract.timestamps import timestamp_of
from services.manager.settings import Settings
from tests.integration.manager.conftest import Run, World, again, until
from tests.integration.manager.refusals import refusal
from tocsin.oncall.v1 import on_call_service_pb2 as pb
from tocsin.oncall.v1.escalation_policy_pb2 import EscalationPolicy, EscalationStep
from tocsin.oncall.v1.schedule_pb2 import Person, Schedule, ScheduleLayer, ScheduleOverride, WeeklyHours

pytestmark = pytest.mark.integration


def document() -> pb.ApplyOnCallRequest:
    layer = ScheduleLayer(name="always", people=["ann"], rotation=ScheduleLayer.DAILY, start_time="2026-01-01T09:00:00")
    return pb.ApplyOnCallRequest(
        people=[Person(name=name, receivers=[f"{name}-pager"]) for name in ("ann", "ben")],
        schedules=[Schedule(name="payments", time_zone="Europe/Berlin", layers=[layer])],
        policies=[EscalationPolicy(name="urgent", steps=[EscalationStep(schedules=["payments"])])],
        request_id=str(uuid.uuid4()),
    )


async def person_on_call(world: World) -> str:
    response = await world.on_call.GetOnCall(pb.GetOnCallRequest(schedule="payments"))
    return str(response.shift.person)


async def test_what_one_manager_writes_another_one_knows(world: World, running: Run, settings: Settings) -> None:
    request = document()
    applied = await world.on_call.ApplyOnCall(request)
    assert [warning.field for warning in applied.warnings] == ["receivers", "policies[0].fallbackReceivers"]
    assert await world.on_call.ApplyOnCall(request) == applied
    async with running(again(settings)) as other:
        assert await person_on_call(other) == "ann"
        end = timestamp_of(datetime.now(UTC) + timedelta(hours=1))
        override = ScheduleOverride(person="ben", end_time=end, actor="cem")
        created = await world.on_call.CreateOverride(pb.CreateOverrideRequest(schedule="payments", override=override))
        assert (await person_on_call(world), await person_on_call(other)) == ("ben", "ben")
        listed = await other.on_call.ListOverrides(pb.ListOverridesRequest(schedule="payments"))
        assert list(listed.overrides) == [created.override]
        calendar = await other.on_call.GetCalendar(pb.GetCalendarRequest(schedule="payments"))
        assert b"SUMMARY:ben on call: payments\r\n" in calendar.calendar.data
        deleted = pb.DeleteOverrideRequest(schedule="payments", id=created.override.id)
        await other.on_call.DeleteOverride(deleted)

        async def is_over() -> bool:
            return await person_on_call(world) == "ann"

        await until(is_over)


async def test_what_is_wrong_or_still_used_is_refused(world: World) -> None:
    request = document()
    request.schedules[0].layers[0].people.append("zoe")
    request.policies[0].steps[0].schedules.append("nights")
    unknown = await refusal(world.on_call.ApplyOnCall(request))
    assert unknown.code is grpc.StatusCode.INVALID_ARGUMENT
    assert unknown.fields == ("schedules[0].layers[0].people[1]", "policies[0].steps[0].schedules[1]")
    request.schedules[0].layers[0].hours.append(WeeklyHours(start="9", end="17:00"))
    request.people[0].name = "ann\nben"
    wrong = await refusal(world.on_call.ApplyOnCall(request))
    assert wrong.fields == ("people[0].name", "schedules[0].layers[0].hours[0].start")
    await world.on_call.ApplyOnCall(document())
    used = await refusal(world.on_call.DeletePerson(pb.DeletePersonRequest(name="ann")))
    assert (used.code, used.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "STILL_IN_USE")
    gone = await refusal(world.on_call.GetSchedule(pb.GetScheduleRequest(name="nights")))
    assert (gone.code, gone.reason) == (grpc.StatusCode.NOT_FOUND, "SCHEDULE_NOT_FOUND")
