"""tocsin incidents: alerts that belong together, and who takes care of them."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.text import Text

from cli.alert_tables import print_related_changes
from cli.alerts import ActorOption, CommentOption, MatchersOption, SeverityOption, parse_age, severity_values
from cli.client import DEFAULT_SERVER, RPC_TIMEOUT_S, ServerOption, list_rows, new_request_id, open_channel
from cli.lookup import complete_incident, find_alert, find_incident
from cli.output import (
    SEVERITY_STYLE,
    STATE_STYLE,
    OutputFormat,
    OutputOption,
    format_cell,
    format_short_timestamp,
    format_styled,
    format_timestamp,
    format_timestamp_ms,
    json_of,
    print_data,
    print_data_item,
    print_fields,
    print_message,
    print_table,
    print_to_stderr,
    print_whole_table,
    short_ids,
    stdout,
)
from cli.watching import IncidentWatch
from services.contract.timestamps import timestamp_of
from tocsin.alerts.v1.alert_pb2 import Alert
from tocsin.incidents.v1 import incident_service_pb2 as service
from tocsin.incidents.v1.incident_pb2 import Correlation, Incident, IncidentAlert, IncidentHistoryEntry
from tocsin.incidents.v1.incident_service_pb2_grpc import IncidentServiceStub
from tocsin.rules.v1.alert_rule_pb2 import AlertRule

app = typer.Typer(no_args_is_help=True, help="See incidents, alerts that belong together, and act on them.")

_COLUMNS = ["ID", "State", "Severity", "Title", "Alerts", "Opened", "Assignee"]


class IncidentStateChoice(StrEnum):
    """The states of the contract, as values of an option."""

    OPEN = "OPEN"
    ACKNOWLEDGED = "ACKNOWLEDGED"
    RESOLVED = "RESOLVED"


IncidentId = Annotated[
    str,
    typer.Argument(
        metavar="ID",
        help="The incident's id, or its beginning, as `tocsin incidents list` shows it.",
        autocompletion=complete_incident,
    ),
]


@app.command("list")
def list_incidents(
    *,
    states: Annotated[
        list[IncidentStateChoice] | None,
        typer.Option("--state", case_sensitive=False, help="Only this state; may be repeated."),
    ] = None,
    severities: SeverityOption = None,
    service_name: Annotated[str, typer.Option("--service", help="Only with an alert of this service.")] = "",
    matchers: MatchersOption = None,
    alert: Annotated[str, typer.Option("--alert", metavar="ID", help="Only the incident of this alert.")] = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="The maximum number to show.")] = 50,
    output: OutputOption = OutputFormat.TABLE,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Show incidents, the newest first."""
    request = service.ListIncidentsRequest(
        states=[Incident.State.Value(state) for state in states or []],
        severities=severity_values(severities),
        service=service_name,
        matchers=matchers,
    )
    with open_channel(server, output) as channel:
        request.alert_id = find_alert(channel, alert, output) if alert else ""
        call = IncidentServiceStub(channel).ListIncidents
        incidents: list[Incident] = list_rows(call, request, lambda page: page.incidents, limit=limit)
    _print_incidents(incidents, output)


@app.command("show")
def show_incident(
    incident_id: IncidentId, output: OutputOption = OutputFormat.TABLE, server: ServerOption = DEFAULT_SERVER
) -> None:
    """Show one incident with its alerts, why each belongs to it, changes before they fired, and its history."""
    with open_channel(server, output) as channel:
        request = service.GetIncidentRequest(id=find_incident(channel, incident_id, output))
        response = IncidentServiceStub(channel).GetIncident(request, timeout=RPC_TIMEOUT_S)
    print_message(response, output, lambda: _print_whole(response))


@app.command("watch")
def watch_incidents(
    *,
    severities: SeverityOption = None,
    service_name: Annotated[str, typer.Option("--service", help="Only with this service among their services.")] = "",
    output: OutputOption = OutputFormat.TABLE,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Watch incidents until Ctrl-C: first those that are not resolved, then each change.

    JSON comes as one incident a line. When the connection breaks, it says so on standard error and connects again.
    """
    request = service.WatchIncidentsRequest(severities=severity_values(severities), service=service_name)
    with open_channel(server, output) as channel:
        watch = IncidentWatch(
            stub=IncidentServiceStub(channel), request=request, notice=lambda text: print_to_stderr(f"{server}: {text}")
        )
        try:
            for incident in watch.changes():
                _print_change(incident, output)
        except KeyboardInterrupt:
            raise typer.Exit from None


@app.command("ack")
def acknowledge_incident(
    incident_id: IncidentId,
    actor: ActorOption,
    comment: CommentOption = "",
    lasting: Annotated[
        timedelta | None,
        typer.Option("--for", parser=parse_age, metavar="SPAN", help="For 90s, 15m, 2h, 7d, …; else without an end."),
    ] = None,
    output: OutputOption = OutputFormat.TABLE,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Acknowledge an incident: somebody takes care of it."""
    until = timestamp_of(datetime.now(UTC) + lasting if lasting is not None else None)
    _act("AcknowledgeIncident", incident_id, actor, comment, output, server, until=until)


@app.command("unack")
def unacknowledge_incident(
    incident_id: IncidentId,
    actor: ActorOption,
    comment: CommentOption = "",
    output: OutputOption = OutputFormat.TABLE,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Take an acknowledgement back."""
    _act("UnacknowledgeIncident", incident_id, actor, comment, output, server)


@app.command("assign")
def assign_incident(
    incident_id: IncidentId,
    assignee: Annotated[str, typer.Argument(metavar="WHO", help='Whom to assign it to; "" for nobody.')],
    actor: ActorOption,
    comment: CommentOption = "",
    output: OutputOption = OutputFormat.TABLE,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Assign an incident to somebody."""
    _act("AssignIncident", incident_id, actor, comment, output, server, assignee=assignee)


@app.command("comment")
def comment_incident(
    incident_id: IncidentId,
    text: Annotated[str, typer.Argument(help="The comment.")],
    actor: ActorOption,
    output: OutputOption = OutputFormat.TABLE,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Add a comment to an incident's history."""
    _act("CommentIncident", incident_id, actor, text, output, server)


@app.command("resolve")
def resolve_by_hand(
    incident_id: IncidentId,
    actor: ActorOption,
    comment: CommentOption = "",
    output: OutputOption = OutputFormat.TABLE,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Resolve an incident, and all of its open alerts."""
    _act("ResolveIncident", incident_id, actor, comment, output, server)


@app.command("merge")
def merge_into(
    incident_id: IncidentId,
    other: Annotated[str, typer.Argument(metavar="OTHER", help="The incident whose alerts it takes over.")],
    actor: ActorOption,
    comment: CommentOption = "",
    output: OutputOption = OutputFormat.TABLE,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Move all alerts of another open incident into one."""
    with open_channel(server, output) as channel:
        other_id = find_incident(channel, other, output)
    _act("MergeIncidents", incident_id, actor, comment, output, server, other_id=other_id)


@app.command("split")
def split_off(
    incident_id: IncidentId,
    alerts: Annotated[list[str], typer.Argument(metavar="ALERT…", help="The alerts to move, by their ids.")],
    actor: ActorOption,
    comment: CommentOption = "",
    output: OutputOption = OutputFormat.TABLE,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Move some alerts of an open incident into a new one."""
    with open_channel(server, output) as channel:
        alert_ids = [find_alert(channel, alert, output) for alert in alerts]
    _act("SplitIncident", incident_id, actor, comment, output, server, alert_ids=alert_ids)


def _act(
    name: str, incident_id: str, actor: str, comment: str, output: OutputFormat, server: str, **fields: Any
) -> None:
    """Call a command of the service, and print the incident after it."""
    with open_channel(server, output) as channel:
        request = getattr(service, f"{name}Request")(
            id=find_incident(channel, incident_id, output),
            actor=actor,
            comment=comment,
            request_id=new_request_id(),
            **fields,
        )
        response = getattr(IncidentServiceStub(channel), name)(request, timeout=RPC_TIMEOUT_S)
    made = [response.new_incident] if isinstance(response, service.SplitIncidentResponse) else []
    changed = [response.incident, *made]
    print_message(response if made else response.incident, output, lambda: _print_incidents(changed, output))
    if getattr(response, "unchanged", False) and not output.is_data:
        stdout.print(_unchanged_text(response.incident), soft_wrap=True)


def _unchanged_text(incident: Incident) -> str:
    if incident.state == Incident.RESOLVED:
        by = f" by {incident.resolved_by}" if incident.resolved_by else ""
        return f"Nothing changed: it was resolved{by} at {format_timestamp(incident.resolve_time)}."
    if incident.state == Incident.ACKNOWLEDGED:
        time = format_timestamp(incident.acknowledge_time)
        return f"Nothing changed: it was acknowledged by {incident.acknowledged_by} at {time}."
    return "Nothing changed: it was so already."


def _print_incidents(incidents: list[Incident], output: OutputFormat) -> None:
    if output.is_data:
        print_data([json_of(incident) for incident in incidents], output)
        return
    is_wide = output is OutputFormat.WIDE
    names = {each.id: each.id for each in incidents} if is_wide else short_ids(each.id for each in incidents)
    rows = [_row(incident, names[incident.id]) for incident in incidents]
    if is_wide:
        rows = [[*row, ", ".join(each.services) or "-"] for row, each in zip(rows, incidents, strict=True)]
    print_table([*_COLUMNS, *(["Services"] if is_wide else [])], rows, cut={"Title"}, name="Title", wide=is_wide)


def _row(incident: Incident, name: str) -> list[str | Text]:
    return [
        name,
        format_styled(Incident.State.Name(incident.state), STATE_STYLE),
        format_styled(AlertRule.Severity.Name(incident.severity), SEVERITY_STYLE),
        incident.title,
        f"{incident.open_alert_count}/{incident.alert_count}",
        format_short_timestamp(incident.create_time),
        incident.assignee or "-",
    ]


def _print_change(incident: Incident, output: OutputFormat) -> None:
    """Print an incident as one line, or as one document for programs."""
    if output.is_data:
        print_data_item(json_of(incident), output)
        return
    _, state, severity, title, alerts, _, assignee = _row(incident, "")
    parts = [format_timestamp(incident.update_time), state, severity, title, f"alerts {alerts}", f"assignee {assignee}"]
    parts += [f"merged into {incident.merged_into}"] if incident.merged_into else []
    # One line on a terminal of any width, and in a file.
    stdout.print(Text("  ").join(format_cell(part) for part in [*parts, incident.id]), soft_wrap=True)


def _print_whole(response: service.GetIncidentResponse) -> None:
    print_fields(dict(_fields(response.incident)))
    names = short_ids(alert.alert_id for alert in response.alerts)
    cause = response.incident.cause_alert_id
    print_whole_table(
        ["Alert", "State", "Severity", "Rule", "Resource", "Fired", "Why"],
        [_alert_row(alert, names[alert.alert_id], is_cause=alert.alert_id == cause) for alert in response.alerts],
        title="Alerts",
    )
    print_related_changes(response.recent_changes, title="Changes before its alerts fired")
    print_whole_table(
        ["Time", "What", "Alert", "Who", "Comment"],
        [_history_row(entry, names) for entry in response.history],
        title="History",
    )


def _fields(incident: Incident) -> Iterator[tuple[str, str]]:
    yield "ID", incident.id
    yield "Title", incident.title
    yield "State", Incident.State.Name(incident.state)
    yield "Severity", AlertRule.Severity.Name(incident.severity)
    yield "Alerts", f"{incident.open_alert_count} open of {incident.alert_count}"
    yield "Probable cause", incident.cause_alert_id
    yield from _present(("Services", ", ".join(incident.services)), ("Assignee", incident.assignee))
    yield "Opened", format_timestamp_ms(incident.create_time)
    if incident.HasField("acknowledge_time"):
        until = f" until {format_timestamp(incident.acknowledged_until)}" if incident.acknowledged_until.seconds else ""
        yield "Acknowledged", f"{format_timestamp_ms(incident.acknowledge_time)} by {incident.acknowledged_by}{until}"
    if incident.HasField("settle_time"):
        yield "Settles", format_timestamp_ms(incident.settle_time)
    if incident.HasField("resolve_time"):
        by = f" by {incident.resolved_by}" if incident.resolved_by else ""
        yield "Resolved", format_timestamp_ms(incident.resolve_time) + by
    yield from _present(("Merged into", incident.merged_into))
    yield "Changed", format_timestamp_ms(incident.update_time)


def _alert_row(alert: IncidentAlert, name: str, *, is_cause: bool) -> list[str | Text]:
    return [
        name,
        format_styled(Alert.State.Name(alert.state), STATE_STYLE),
        format_styled(AlertRule.Severity.Name(alert.severity), SEVERITY_STYLE),
        alert.rule_name,
        alert.resource or "(none)",
        format_timestamp_ms(alert.fire_time),
        ("probable cause; " if is_cause else "") + _why(alert.correlation),
    ]


def _why(correlation: Correlation) -> str:
    """Return in words why an alert is in its incident."""
    match correlation.reason:
        case Correlation.SAME_RESOURCE:
            return "same resource"
        case Correlation.DEPENDENCY:
            return "depends: " + " → ".join(correlation.path) if len(correlation.path) > 1 else "same service"
        case Correlation.LABELS:
            return "same " + ", ".join(f"{name}={value}" for name, value in sorted(correlation.labels.items()))
        case _:
            return "began it"


def _history_row(entry: IncidentHistoryEntry, names: dict[str, str]) -> list[str | Text]:
    kind = IncidentHistoryEntry.Kind.Name(entry.kind)
    if entry.notified_kind:
        kind = f"{kind} {entry.notified_kind}"
    alert = names.get(entry.alert_id, entry.alert_id) or "-"
    # Who acted, or who was notified.
    who = entry.actor or ", ".join(entry.receivers) or "-"
    return [format_timestamp_ms(entry.create_time), kind, alert, who, entry.comment or "-"]


def _present(*fields: tuple[str, str]) -> Iterable[tuple[str, str]]:
    return ((name, value) for name, value in fields if value)
