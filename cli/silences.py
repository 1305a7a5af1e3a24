"""tocsin silences: of which alerts nobody is notified, and when."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated

import typer
from google.protobuf.timestamp_pb2 import Timestamp
from rich.text import Text

from cli.alert_tables import print_alerts
from cli.alerts import ActorOption, parse_age
from cli.client import DEFAULT_SERVER, RPC_TIMEOUT_S, ServerOption, list_rows, new_request_id, open_channel
from cli.label_matchers import check_matchers
from cli.lookup import complete_silence, find_alert, find_silence
from cli.output import (
    OutputFormat,
    OutputOption,
    format_short_timestamp,
    format_styled,
    format_timestamp,
    json_of,
    print_data,
    print_fields,
    print_message,
    print_table,
    short_ids,
    stdout,
)
from cli.routing.tree_file import span_text
from services.contract.timestamps import duration_of, timestamp_of
from tocsin.silences.v1 import silence_service_pb2 as service
from tocsin.silences.v1.silence_pb2 import Recurrence, Silence
from tocsin.silences.v1.silence_service_pb2_grpc import SilenceServiceStub

app = typer.Typer(no_args_is_help=True, help="Silence alerts: they are stored and shown, and nobody is notified.")

_STYLE = {"ACTIVE": "yellow", "PENDING": "cyan", "EXPIRED": "dim"}
_COLUMNS = ["ID", "State", "Matchers", "Start", "End", "Author", "Comment"]


class SilenceStateChoice(StrEnum):
    """The states of the contract, as values of an option."""

    PENDING = "PENDING"
    ACTIVE = "ACTIVE"
    EXPIRED = "EXPIRED"


def parse_local_time(text: str) -> datetime:
    """Return the time that a text stands for; one without a zone is this machine's."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (OverflowError, ValueError):
        raise typer.BadParameter(f'found "{text}", expected a time such as 2026-11-29T22:00 or …T22:00Z') from None


MatchersArgument = Annotated[
    list[str] | None,
    typer.Argument(
        parser=check_matchers,
        metavar="MATCHERS",
        help='Which alerts, such as \'service="payments", severity!="CRITICAL"\'; all of them must hold.',
    ),
]
AlertsOption = Annotated[
    list[str] | None,
    typer.Option("--alert", help="In place of matchers: this open alert, until it is resolved; may be repeated."),
]
SilenceId = Annotated[
    str,
    typer.Argument(
        help="The silence's id, or its beginning, as `tocsin silences list` shows it.",
        autocompletion=complete_silence,
    ),
]
SpanOption = Annotated[
    timedelta | None,
    typer.Option(
        "--for", parser=parse_age, metavar="SPAN", help="How long: 90s, 15m, 2h, 7d; of each time, with --rule."
    ),
]


@app.command("add")
def add_silence(
    *,
    author: ActorOption,
    comment: Annotated[str, typer.Option("--comment", "-m", help="Why.")],
    matchers: MatchersArgument = None,
    alerts: AlertsOption = None,
    span: SpanOption = None,
    until: Annotated[
        datetime | None, typer.Option("--until", parser=parse_local_time, metavar="TIME", help="When it ends.")
    ] = None,
    start: Annotated[
        datetime | None,
        typer.Option("--start", parser=parse_local_time, metavar="TIME", help="When it begins; without it, now."),
    ] = None,
    rule: Annotated[
        str,
        typer.Option("--rule", help="When it recurs, by RFC 5545: FREQ=WEEKLY;BYDAY=SU. With --from, --zone, --for."),
    ] = "",
    first: Annotated[
        str,
        typer.Option(
            "--from", metavar="TIME", help="With --rule, its first time on the zone's clock: 2026-11-29T22:00:00."
        ),
    ] = "",
    zone: Annotated[
        str, typer.Option("--zone", help="With --rule, the time zone, such as Europe/Berlin; without it, UTC.")
    ] = "",
    output: OutputOption = OutputFormat.TABLE,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Silence alerts for a time, at times that recur, or named ones until they are resolved."""
    silence = Silence(matchers=matchers, start_time=timestamp_of(start), author=author, comment=comment)
    if rule:
        silence.recurrence.CopyFrom(_recurrence(rule, first, zone, span))
        _refuse_unless(until is None, "--rule has its own UNTIL, in place of --until")
    else:
        _refuse_unless(not (first or zone), "--from and --zone belong to --rule; --start is when one silence begins")
        silence.MergeFrom(_end(start, span, until, is_required=not alerts))
    with open_channel(server, output) as channel:
        silence.alert_ids.extend(find_alert(channel, each, output) for each in alerts or [])
        request = service.CreateSilenceRequest(silence=silence, request_id=new_request_id())
        response = SilenceServiceStub(channel).CreateSilence(request, timeout=RPC_TIMEOUT_S)
    print_message(response.silence, output, lambda: print_fields(dict(_fields(response.silence))))


@app.command("list")
def list_silences(
    *,
    states: Annotated[
        list[SilenceStateChoice] | None,
        typer.Option("--state", case_sensitive=False, help="Only this state; may be repeated. Without: not expired."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="The maximum number to show.")] = 50,
    output: OutputOption = OutputFormat.TABLE,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Show silences, the newest first."""
    wanted = states or [SilenceStateChoice.PENDING, SilenceStateChoice.ACTIVE]
    request = service.ListSilencesRequest(states=[Silence.State.Value(state) for state in wanted])
    with open_channel(server, output) as channel:
        call = SilenceServiceStub(channel).ListSilences
        silences: list[Silence] = list_rows(call, request, lambda page: page.silences, limit=limit)
    if output.is_data:
        print_data([json_of(silence) for silence in silences], output)
        return
    is_wide = output is OutputFormat.WIDE
    names = short_ids(silence.id for silence in silences)
    rows = [_row(silence, silence.id if is_wide else names[silence.id]) for silence in silences]
    print_table(_COLUMNS, rows, wide=is_wide, cut={"Matchers", "Comment"})


@app.command("show")
def show_silence(
    silence_id: SilenceId, output: OutputOption = OutputFormat.TABLE, server: ServerOption = DEFAULT_SERVER
) -> None:
    """Show one silence."""
    with open_channel(server, output) as channel:
        request = service.GetSilenceRequest(id=find_silence(channel, silence_id, output))
        silence = SilenceServiceStub(channel).GetSilence(request, timeout=RPC_TIMEOUT_S).silence
    print_message(silence, output, lambda: print_fields(dict(_fields(silence))))


@app.command("expire")
def expire_silence(
    silence_id: SilenceId, output: OutputOption = OutputFormat.TABLE, server: ServerOption = DEFAULT_SERVER
) -> None:
    """End a silence now: people are notified of the alerts that still fire and of which nobody was."""
    with open_channel(server, output) as channel:
        request = service.ExpireSilenceRequest(
            id=find_silence(channel, silence_id, output), request_id=new_request_id()
        )
        response = SilenceServiceStub(channel).ExpireSilence(request, timeout=RPC_TIMEOUT_S)
    print_message(response.silence, output, lambda: print_fields(dict(_fields(response.silence))))
    if response.unchanged and not output.is_data:
        stdout.print("It had expired before.")


@app.command("preview")
def preview_silence(
    matchers: MatchersArgument = None,
    alerts: AlertsOption = None,
    output: OutputOption = OutputFormat.TABLE,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Show which open alerts a silence would hold of, and of how many in the last 7 days. Nothing is silenced."""
    with open_channel(server, output) as channel:
        silence = Silence(matchers=matchers, alert_ids=[find_alert(channel, each, output) for each in alerts or []])
        request = service.PreviewSilenceRequest(silence=silence)
        response = SilenceServiceStub(channel).PreviewSilence(request, timeout=RPC_TIMEOUT_S)
    print_message(response, output, lambda: _print_preview(response, output))


def _print_preview(response: service.PreviewSilenceResponse, output: OutputFormat) -> None:
    print_alerts(list(response.alerts), output)
    at_least = "at least " if response.recent_alerts_incomplete else ""
    stdout.print(
        f"Open alerts: {response.open_alert_count}. In the last 7 days: {at_least}{response.recent_alert_count}."
    )


def _recurrence(rule: str, first: str, zone: str, span: timedelta | None) -> Recurrence:
    if not first or span is None:
        raise typer.BadParameter("--rule needs --from, the first time, and --for, how long each time lasts")
    return Recurrence(rule=rule, start_time=first, time_zone=zone or "UTC", duration=duration_of(span))


def _end(start: datetime | None, span: timedelta | None, until: datetime | None, *, is_required: bool) -> Silence:
    """Return a silence that has an end, and nothing else."""
    given = [each for each in (span, until) if each is not None]
    _refuse_unless(len(given) == 1 or not (given or is_required), "expected --for or --until, --rule, or --alert")
    return Silence(end_time=timestamp_of(until if span is None else (start or datetime.now(UTC)) + span))


def _refuse_unless(condition: bool, problem: str) -> None:  # noqa: FBT001 - a condition stands where it is read
    if not condition:
        raise typer.BadParameter(problem)


def _row(silence: Silence, name: str) -> list[str | Text]:
    end = silence.occurrence_end_time if silence.HasField("recurrence") else _end_of(silence)
    start = silence.occurrence_start_time if silence.HasField("recurrence") else silence.start_time
    return [
        name,
        format_styled(Silence.State.Name(silence.state), _STYLE),
        ", ".join(silence.matchers) or f"alerts {', '.join(silence.alert_ids)}",
        format_short_timestamp(start),
        format_short_timestamp(end),
        silence.author,
        silence.comment,
    ]


def _end_of(silence: Silence) -> Timestamp:
    return silence.expire_time if silence.HasField("expire_time") else silence.end_time


def _fields(silence: Silence) -> Iterator[tuple[str, str]]:
    """Yield the names and values of a silence; what it does not have is left out."""
    yield "ID", silence.id
    yield "State", Silence.State.Name(silence.state)
    if silence.matchers:
        yield "Matchers", ", ".join(silence.matchers)
    if silence.alert_ids:
        yield "Alerts", ", ".join(silence.alert_ids)
    yield "Start", format_timestamp(silence.start_time)
    if silence.HasField("recurrence"):
        recurs = silence.recurrence
        span = span_text(recurs.duration)
        yield "Recurs", f"{recurs.rule} from {recurs.start_time} {recurs.time_zone}, each time for {span}"
        begins, ends = format_timestamp(silence.occurrence_start_time), format_timestamp(silence.occurrence_end_time)
        yield "Present or next time", f"{begins} to {ends}"
    yield "End", format_timestamp(silence.end_time)
    if silence.HasField("expire_time"):
        yield "Expired", format_timestamp(silence.expire_time)
    yield "Author", silence.author
    yield "Comment", silence.comment
    yield "Created", format_timestamp(silence.create_time)
