"""tocsin oncall: who is on call, the next shifts, overrides, and what they are made of."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer
from google.protobuf.timestamp_pb2 import Timestamp

from cli.alerts import ActorOption, parse_age
from cli.client import DEFAULT_SERVER, RPC_TIMEOUT_S, ServerOption, list_rows, new_request_id, open_channel
from cli.oncall.apply import apply_on_call, delete_on_call_resource
from cli.oncall.documents import NOUNS
from cli.oncall.listing import all_resources, export_document, print_resources
from cli.output import (
    OutputFormat,
    OutputOption,
    format_cell,
    format_timestamp,
    json_of,
    print_crlf_lines,
    print_data,
    print_fields,
    print_message,
    print_table,
    short_ids,
    stdout,
)
from cli.silences import parse_local_time
from services.contract.timestamps import datetime_of, timestamp_of
from tocsin.oncall.v1 import on_call_service_pb2 as service
from tocsin.oncall.v1.on_call_service_pb2_grpc import OnCallServiceStub
from tocsin.oncall.v1.schedule_pb2 import OnCallShift, ScheduleOverride

app = typer.Typer(no_args_is_help=True, help="Who is on call: people, schedules, overrides, escalation policies.")

ScheduleName = Annotated[str, typer.Argument(metavar="SCHEDULE", help="The schedule's name.")]
MomentOption = Annotated[
    datetime | None,
    typer.Option("--at", parser=parse_local_time, metavar="TIME", help="At this time; without it, now."),
]
_NOBODY = "nobody"


class DeletedKind(StrEnum):
    """What can be deleted."""

    PERSON = "person"
    SCHEDULE = "schedule"
    POLICY = "policy"


app.command("apply")(apply_on_call)


@app.command("who")
def show_on_call(
    schedule: Annotated[str, typer.Argument(metavar="[SCHEDULE]", help="Only of this schedule.")] = "",
    *,
    at: MomentOption = None,
    output: OutputOption = OutputFormat.TABLE,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Show who is on call in each schedule, or in one of them with what reaches them and who is next."""
    with open_channel(server, output) as channel:
        stub = OnCallServiceStub(channel)
        if schedule:
            request = service.GetOnCallRequest(schedule=schedule, time=timestamp_of(at))
            response = stub.GetOnCall(request, timeout=RPC_TIMEOUT_S)
            print_message(response, output, lambda: print_fields(_on_call_fields(response)))
            return
        rows = list_rows(stub.ListOnCall, service.ListOnCallRequest(time=timestamp_of(at)), lambda page: page.schedules)
    if output.is_data:
        print_data([json_of(each) for each in rows], output)
        return
    print_table(
        ["Schedule", "On call", "By", "Until (UTC)"],
        [
            [each.schedule, each.shift.person or _NOBODY, _source(each.shift), format_timestamp(each.shift.end_time)]
            for each in rows
        ],
    )


@app.command("show")
def show_shifts(
    schedule: ScheduleName,
    *,
    days: Annotated[int, typer.Option("--days", min=1, max=31, help="How many days ahead.")] = 14,
    start: Annotated[
        datetime | None,
        typer.Option("--start", parser=parse_local_time, metavar="TIME", help="From this time on; without it, now."),
    ] = None,
    output: OutputOption = OutputFormat.TABLE,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Show the shifts of the next days, on the clock of the schedule's zone."""
    with open_channel(server, output) as channel:
        stub = OnCallServiceStub(channel)
        request = service.ListShiftsRequest(schedule=schedule, days=days, start_time=timestamp_of(start))
        shifts = stub.ListShifts(request, timeout=RPC_TIMEOUT_S).shifts
        found = stub.GetSchedule(service.GetScheduleRequest(name=schedule), timeout=RPC_TIMEOUT_S).schedule
    if output.is_data:
        print_data([json_of(each) for each in shifts], output)
        return
    zone = ZoneInfo(found.time_zone)
    print_table(
        ["Start", "End", "On call", "By"],
        [[_zoned(each.start_time, zone), _zoned(each.end_time, zone), each.person, _source(each)] for each in shifts],
        title=f"{schedule}, times in {found.time_zone}",
    )


@app.command("calendar")
def print_calendar(
    schedule: ScheduleName,
    person: Annotated[str, typer.Option("--person", help="Only shifts of this person.")] = "",
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Print the shifts as an iCalendar file, from 7 days ago to 31 days ahead.

    `/api/schedules/SCHEDULE/calendar` is the same to subscribe to.
    """
    with open_channel(server) as channel:
        request = service.GetCalendarRequest(schedule=schedule, person=person)
        calendar = OnCallServiceStub(channel).GetCalendar(request, timeout=RPC_TIMEOUT_S).calendar
    print_crlf_lines(calendar.data.decode().split("\r\n")[:-1])


@app.command("override")
def add_schedule_override(
    schedule: ScheduleName,
    person: Annotated[str, typer.Argument(metavar="PERSON", help="Who is on call then, in place of everybody else.")],
    *,
    start: Annotated[
        datetime | None,
        typer.Option("--start", parser=parse_local_time, metavar="TIME", help="When it begins; without it, now."),
    ] = None,
    end: Annotated[
        datetime | None, typer.Option("--end", parser=parse_local_time, metavar="TIME", help="When it ends.")
    ] = None,
    span: Annotated[
        timedelta | None,
        typer.Option("--for", parser=parse_age, metavar="SPAN", help="In place of --end, how long: 90s, 15m, 2h, 7d."),
    ] = None,
    actor: ActorOption,
    output: OutputOption = OutputFormat.TABLE,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Put a person on call for a time. A time without a zone is one of this machine's."""
    if (end is None) == (span is None):
        raise typer.BadParameter("expected --end or --for")
    ends = (start or datetime.now(UTC)) + span if span is not None else end
    override = ScheduleOverride(person=person, start_time=timestamp_of(start), end_time=timestamp_of(ends), actor=actor)
    request = service.CreateOverrideRequest(schedule=schedule, override=override, request_id=new_request_id())
    with open_channel(server, output) as channel:
        created = OnCallServiceStub(channel).CreateOverride(request, timeout=RPC_TIMEOUT_S).override
    print_message(created, output, lambda: _print_overrides([created], output))


@app.command("overrides")
def list_overrides(
    schedule: ScheduleName,
    *,
    deleted: Annotated[
        str, typer.Option("--delete", metavar="ID", help="Delete this one: its id, or the id's beginning.")
    ] = "",
    output: OutputOption = OutputFormat.TABLE,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Show the overrides of a schedule that have not ended, or delete one of them."""
    with open_channel(server, output) as channel:
        stub = OnCallServiceStub(channel)
        request = service.ListOverridesRequest(schedule=schedule)
        overrides = stub.ListOverrides(request, timeout=RPC_TIMEOUT_S).overrides
        if deleted:
            found = [each.id for each in overrides if each.id.startswith(deleted.lower())]
            if len(found) > 1:
                raise typer.BadParameter(f'"{deleted}" is the beginning of several ids: {", ".join(found)}')
            name = found[0] if found else deleted
            stub.DeleteOverride(service.DeleteOverrideRequest(schedule=schedule, id=name), timeout=RPC_TIMEOUT_S)
            _print_deleted(name, output)
            return
    if output.is_data:
        print_data([json_of(each) for each in overrides], output)
    else:
        _print_overrides(overrides, output)


@app.command("people")
def list_people(output: OutputOption = OutputFormat.TABLE, server: ServerOption = DEFAULT_SERVER) -> None:
    """Show all people and what reaches them."""
    _list("people", output, server)


@app.command("schedules")
def list_schedules(output: OutputOption = OutputFormat.TABLE, server: ServerOption = DEFAULT_SERVER) -> None:
    """Show all schedules with their layers; a later layer beats an earlier one."""
    _list("schedules", output, server)


@app.command("policies")
def list_policies(output: OutputOption = OutputFormat.TABLE, server: ServerOption = DEFAULT_SERVER) -> None:
    """Show all escalation policies with their steps."""
    _list("policies", output, server)


@app.command("export")
def export_on_call(output: OutputOption = OutputFormat.YAML, server: ServerOption = DEFAULT_SERVER) -> None:
    """Print everything but overrides as YAML, or JSON, as `oncall apply` takes it."""
    form = output if output.is_data else OutputFormat.YAML
    with open_channel(server, form) as channel:
        document = export_document(OnCallServiceStub(channel))
    print_data(document, form)


@app.command("delete")
def delete_on_call(
    kind: Annotated[DeletedKind, typer.Argument(metavar="KIND", help="person, schedule or policy.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name.")],
    output: OutputOption = OutputFormat.TABLE,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Delete a person, a schedule with its overrides, or a policy. What is still used is refused."""
    with open_channel(server, output) as channel:
        key = next(key for key, noun in NOUNS.items() if noun == kind)
        delete_on_call_resource(OnCallServiceStub(channel), key, name)
    _print_deleted(name, output)


def _list(key: str, output: OutputFormat, server: str) -> None:
    with open_channel(server, output) as channel:
        found = all_resources(OnCallServiceStub(channel), key)
    print_resources(found, key, output)


def _print_deleted(name: str, output: OutputFormat) -> None:
    if output.is_data:
        print_data({"name": name, "deleted": True}, output)
    else:
        stdout.print(format_cell(f"deleted {name}"))


def _print_overrides(overrides: Sequence[ScheduleOverride], output: OutputFormat) -> None:
    is_wide = output is OutputFormat.WIDE
    names = short_ids(each.id for each in overrides)
    rows = [
        [
            each.id if is_wide else names[each.id],
            each.person,
            format_timestamp(each.start_time),
            format_timestamp(each.end_time),
            each.actor,
        ]
        for each in overrides
    ]
    print_table(["ID", "On call", "Start (UTC)", "End (UTC)", "By"], rows, cut={"By"}, wide=is_wide)


def _on_call_fields(response: service.GetOnCallResponse) -> dict[str, Any]:
    fields: dict[str, Any] = {"On call": _NOBODY}
    if response.HasField("shift"):
        person = response.person
        fields["On call"] = f"{person.display_name} ({person.name})" if person.display_name else response.shift.person
        fields["Receivers"] = list(person.receivers)
        fields["By"] = _source(response.shift)
        fields["Since"] = f"{format_timestamp(response.shift.start_time)} UTC"
        fields["Until"] = f"{format_timestamp(response.shift.end_time)} UTC"
    if response.HasField("next_shift"):
        following = response.next_shift
        fields["Next"] = f"{following.person} from {format_timestamp(following.start_time)} UTC ({_source(following)})"
    return fields


def _source(shift: OnCallShift) -> str:
    return "override" if shift.is_override else shift.layer or "-"


def _zoned(time: Timestamp, zone: ZoneInfo) -> str:
    return f"{datetime_of(time).astimezone(zone):%a %Y-%m-%d %H:%M}"
