"""OnCallService: people, schedules and escalation policies, and who is on call; OnCallCommands changes them."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

from google.api.httpbody_pb2 import HttpBody
from google.protobuf.message import Message

from services.chassis.clock import Clock
from services.chassis.failures import Violation
from services.chassis.grpc_server import Mount
from services.contract.paging import encode_page_token, filters_of
from services.manager.core.on_call import OnCallDirectory, OnCallShift, Schedule
from services.manager.core.on_call_calendar import calendar_text
from services.manager.core.on_call_records import OnCallKind
from services.manager.ports.feeds import OnCallFeed
from services.manager.rpc.failures import PersonNotFound
from services.manager.rpc.on_call_commands import OnCallCommands, stored_record
from services.manager.rpc.on_call_messages import (
    override_message,
    person_message,
    resource_message,
    shift_message,
)
from services.manager.rpc.pages import first_page, page_of
from services.manager.rpc.requests import check_fields, optional_time, refuse_if_any
from tocsin.oncall.v1 import on_call_service_pb2 as pb
from tocsin.oncall.v1.on_call_service_pb2_grpc import OnCallServiceServicer, add_OnCallServiceServicer_to_server

_DEFAULT_DAYS = 14
_MAX_DAYS = 31
_FAR = timedelta(days=366)
_CALENDAR_BEHIND = timedelta(days=7)
_CALENDAR_AHEAD = timedelta(days=31)
_CALENDAR_TYPE = "text/calendar; charset=utf-8"
_MOMENT = timedelta(microseconds=1)

_ListRequest = pb.ListPeopleRequest | pb.ListSchedulesRequest | pb.ListEscalationPoliciesRequest
_ScheduleRequest = pb.ListOverridesRequest | pb.GetOnCallRequest | pb.ListShiftsRequest | pb.GetCalendarRequest
_GetRequest = pb.GetPersonRequest | pb.GetScheduleRequest | pb.GetEscalationPolicyRequest


# ruff: noqa: N802  (rpcs are named, and described, by the contract)
class OnCallRpc(OnCallServiceServicer):
    """Serves all of it from memory, after it is as new as the database's."""

    def __init__(self, commands: OnCallCommands, feed: OnCallFeed, clock: Clock) -> None:
        self._commands = commands
        self._feed = feed
        self._clock = clock

    def mount(self) -> Mount:
        """Return the service for a server."""
        return Mount(
            pb.DESCRIPTOR.services_by_name["OnCallService"].full_name,
            lambda server: add_OnCallServiceServicer_to_server(self, server),
        )

    async def ApplyOnCall(self, request: pb.ApplyOnCallRequest, _context: Any) -> pb.ApplyOnCallResponse:
        return await self._commands.apply(request)

    async def GetPerson(self, request: pb.GetPersonRequest, _context: Any) -> pb.GetPersonResponse:
        return pb.GetPersonResponse(person=await self._get(OnCallKind.PERSON, request))

    async def GetSchedule(self, request: pb.GetScheduleRequest, _context: Any) -> pb.GetScheduleResponse:
        return pb.GetScheduleResponse(schedule=await self._get(OnCallKind.SCHEDULE, request))

    async def GetEscalationPolicy(
        self, request: pb.GetEscalationPolicyRequest, _context: Any
    ) -> pb.GetEscalationPolicyResponse:
        return pb.GetEscalationPolicyResponse(policy=await self._get(OnCallKind.POLICY, request))

    async def ListPeople(self, request: pb.ListPeopleRequest, _context: Any) -> pb.ListPeopleResponse:
        people, token = await self._list(OnCallKind.PERSON, request)
        return pb.ListPeopleResponse(people=people, next_page_token=token)

    async def ListSchedules(self, request: pb.ListSchedulesRequest, _context: Any) -> pb.ListSchedulesResponse:
        schedules, token = await self._list(OnCallKind.SCHEDULE, request)
        return pb.ListSchedulesResponse(schedules=schedules, next_page_token=token)

    async def ListEscalationPolicies(
        self, request: pb.ListEscalationPoliciesRequest, _context: Any
    ) -> pb.ListEscalationPoliciesResponse:
        policies, token = await self._list(OnCallKind.POLICY, request)
        return pb.ListEscalationPoliciesResponse(policies=policies, next_page_token=token)

    async def ReplacePerson(self, request: pb.ReplacePersonRequest, _context: Any) -> pb.ReplacePersonResponse:
        return await self._commands.replace(request, "person", pb.ReplacePersonResponse)

    async def ReplaceSchedule(self, request: pb.ReplaceScheduleRequest, _context: Any) -> pb.ReplaceScheduleResponse:
        return await self._commands.replace(request, "schedule", pb.ReplaceScheduleResponse)

    async def ReplaceEscalationPolicy(
        self, request: pb.ReplaceEscalationPolicyRequest, _context: Any
    ) -> pb.ReplaceEscalationPolicyResponse:
        return await self._commands.replace(request, "policy", pb.ReplaceEscalationPolicyResponse)

    async def DeletePerson(self, request: pb.DeletePersonRequest, _context: Any) -> pb.DeletePersonResponse:
        await self._commands.delete(OnCallKind.PERSON, request)
        return pb.DeletePersonResponse()

    async def DeleteSchedule(self, request: pb.DeleteScheduleRequest, _context: Any) -> pb.DeleteScheduleResponse:
        await self._commands.delete(OnCallKind.SCHEDULE, request)
        return pb.DeleteScheduleResponse()

    async def DeleteEscalationPolicy(
        self, request: pb.DeleteEscalationPolicyRequest, _context: Any
    ) -> pb.DeleteEscalationPolicyResponse:
        await self._commands.delete(OnCallKind.POLICY, request)
        return pb.DeleteEscalationPolicyResponse()

    async def CreateOverride(self, request: pb.CreateOverrideRequest, _context: Any) -> pb.CreateOverrideResponse:
        return await self._commands.create_override(request)

    async def DeleteOverride(self, request: pb.DeleteOverrideRequest, _context: Any) -> pb.DeleteOverrideResponse:
        return await self._commands.delete_override(request)

    async def ListOverrides(self, request: pb.ListOverridesRequest, _context: Any) -> pb.ListOverridesResponse:
        schedule = await self._schedule(request)
        now = self._clock.now()
        current = sorted(
            (each for each in schedule.overrides if each.end_time > now), key=lambda each: (each.start_time, each.id)
        )
        return pb.ListOverridesResponse(overrides=map(override_message, current))

    async def GetOnCall(self, request: pb.GetOnCallRequest, _context: Any) -> pb.GetOnCallResponse:
        schedule = await self._schedule(request)
        at = self._moment(request, "time")
        shifts = await asyncio.to_thread(schedule.shifts, at, at + timedelta(days=_DEFAULT_DAYS))
        now = next((each for each in shifts if each.start <= at), None)
        following = next((each for each in shifts if each.start > at), None)
        person = None if now is None else self._feed.current.people.get(now.person)
        return pb.GetOnCallResponse(
            shift=shift_message(schedule.name, now) if now else None,
            person=person_message(person) if person else None,
            next_shift=shift_message(schedule.name, following) if following else None,
        )

    async def ListOnCall(self, request: pb.ListOnCallRequest, _context: Any) -> pb.ListOnCallResponse:
        check_fields(request)
        at = self._moment(request, "time")
        filters = filters_of(request)
        page = page_of(request.page_size, request.page_token, filters=filters, width=1)
        await self._feed.refresh()
        directory = self._feed.current
        shown, last = await asyncio.to_thread(
            first_page, sorted(directory.schedules), page, lambda name: _schedule_on_call(directory, name, at)
        )
        return pb.ListOnCallResponse(schedules=shown, next_page_token=encode_page_token(last, filters=filters))

    async def ListShifts(self, request: pb.ListShiftsRequest, _context: Any) -> pb.ListShiftsResponse:
        if not 0 <= request.days <= _MAX_DAYS:
            refuse_if_any(Violation("days", f"is {request.days}, must be 1 to {_MAX_DAYS}"))
        first = self._moment(request, "start_time")
        schedule = await self._schedule(request)
        days = timedelta(days=request.days or _DEFAULT_DAYS)
        shifts = await asyncio.to_thread(schedule.shifts, first, first + days)
        return pb.ListShiftsResponse(shifts=[shift_message(schedule.name, each) for each in shifts])

    async def GetCalendar(self, request: pb.GetCalendarRequest, _context: Any) -> pb.GetCalendarResponse:
        schedule = await self._schedule(request)
        directory = self._feed.current
        if request.person and request.person not in directory.people:
            raise PersonNotFound("there is no person of this name", name=request.person)
        now = self._clock.now()
        text = await asyncio.to_thread(_calendar, directory, schedule, request.person, now)
        return pb.GetCalendarResponse(calendar=HttpBody(content_type=_CALENDAR_TYPE, data=text.encode()))

    async def _get(self, kind: OnCallKind, request: _GetRequest) -> Any:
        """Return the message of a resource; the caller knows its type."""
        check_fields(request, "name")
        await self._feed.refresh()
        return resource_message(stored_record(self._feed.snapshot, (kind, request.name)))

    async def _list(self, kind: OnCallKind, request: _ListRequest) -> tuple[list[Any], str]:
        """Return the messages of a page, and the next page's token; the caller knows their type."""
        check_fields(request)
        filters = filters_of(request)
        page = page_of(request.page_size, request.page_token, filters=filters, width=1)
        await self._feed.refresh()
        snapshot = self._feed.snapshot
        names = [name for name in snapshot.names(kind) if name.startswith(request.name_prefix)]
        shown, last = first_page(names, page, lambda name: resource_message(snapshot.records[kind, name]))
        return shown, encode_page_token(last, filters=filters)

    async def _schedule(self, request: _ScheduleRequest) -> Schedule:
        check_fields(request, "schedule")
        await self._feed.refresh()
        stored_record(self._feed.snapshot, (OnCallKind.SCHEDULE, request.schedule))
        return self._feed.current.schedules[request.schedule]

    def _moment(self, request: Message, field: str) -> datetime:
        """Return the moment in a field, by default now. InvalidRequest when it is too far away."""
        now = self._clock.now()
        moment = optional_time(request, field) or now
        if abs(moment - now) > _FAR:
            json_name = request.DESCRIPTOR.fields_by_name[field].json_name
            refuse_if_any(
                Violation(json_name, f"is {moment.isoformat()}, must be within a year from now, {now.isoformat()}")
            )
        return moment


def _schedule_on_call(directory: OnCallDirectory, name: str, at: datetime) -> pb.ScheduleOnCall:
    shift: OnCallShift | None = next(iter(directory.schedules[name].shifts(at, at + _MOMENT)), None)
    return pb.ScheduleOnCall(schedule=name, shift=shift_message(name, shift) if shift else None)


def _calendar(directory: OnCallDirectory, schedule: Schedule, person: str, now: datetime) -> str:
    shifts = schedule.shifts(now - _CALENDAR_BEHIND, now + _CALENDAR_AHEAD)
    wanted = [each for each in shifts if person in {"", each.person}]
    return calendar_text(schedule, wanted, directory.people, now=now)
