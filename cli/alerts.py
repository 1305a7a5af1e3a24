"""tocsin alerts: what is wrong now, and what was."""

import getpass
import os
from enum import StrEnum
from typing import Annotated

import typer
from rich.text import Text

from cli.client import DEFAULT_SERVER, RPC_TIMEOUT_S, ServerOption, new_request_id, open_channel
from cli.output import (
    SEVERITY_STYLE,
    STATE_STYLE,
    OutputFormat,
    OutputOption,
    format_cell,
    format_number,
    format_styled,
    format_timestamp,
    json_of,
    print_json,
    print_message,
    print_table,
    stdout,
)
from tocsin.alerts.v1 import alert_service_pb2 as service
from tocsin.alerts.v1.alert_pb2 import Alert, AlertHistoryEntry
from tocsin.alerts.v1.alert_service_pb2_grpc import AlertServiceStub
from tocsin.logs.v1.log_event_pb2 import LogEvent
from tocsin.rules.v1.alert_rule_pb2 import AlertRule

app = typer.Typer(no_args_is_help=True, help="See alerts and act on them.")


class SeverityChoice(StrEnum):
    """The severities of the contract, as values of an option."""

    LOW = "LOW"
    MEDIUM = "MEDIUM"
    HIGH = "HIGH"
    CRITICAL = "CRITICAL"


class StateChoice(StrEnum):
    """The states of the contract, as values of an option."""

    FIRING = "FIRING"
    ACKNOWLEDGED = "ACKNOWLEDGED"
    RESOLVED = "RESOLVED"


def user_name() -> str:
    """Return who runs the command; where the machine has no name for them, the number of the user."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"


AlertId = Annotated[str, typer.Argument(help="The alert's id, as `tocsin alerts list` shows it.")]
ActorOption = Annotated[
    str, typer.Option("--actor", default_factory=user_name, show_default="your user name", help="Who does it.")
]
CommentOption = Annotated[str, typer.Option("--comment", "-m", help="A comment for the history.")]
SeverityOption = Annotated[
    list[SeverityChoice] | None,
    typer.Option("--severity", case_sensitive=False, help="Only this severity; may be repeated."),
]
RuleOption = Annotated[str, typer.Option("--rule", help="Only alerts of the rule with this id.")]
ResourceOption = Annotated[str, typer.Option("--resource", help="Only alerts of this resource.")]

_COLUMNS = ["ID", "State", "Severity", "Rule", "Resource", "Count", "Fired", "Repeats"]


@app.command("list")
def list_alerts(
    *,
    states: Annotated[
        list[StateChoice] | None,
        typer.Option("--state", case_sensitive=False, help="Only this state; may be repeated."),
    ] = None,
    severities: SeverityOption = None,
    rule: RuleOption = "",
    resource: ResourceOption = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="The maximum number to show.")] = 50,
    output: OutputOption = OutputFormat.TABLE,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Show alerts, the newest first."""
    request = service.ListAlertsRequest(
        states=[Alert.State.Value(state) for state in states or []],
        severities=_severity_values(severities),
        rule_id=rule,
        resource=resource,
    )
    alerts: list[Alert] = []
    with open_channel(server, output) as channel:
        stub = AlertServiceStub(channel)
        while len(alerts) < limit:
            request.page_size = min(500, limit - len(alerts))
            page = stub.ListAlerts(request, timeout=RPC_TIMEOUT_S)
            alerts += page.alerts
            request.page_token = page.next_page_token
            if not request.page_token:
                break
    _print_alerts(alerts, output)


@app.command("show")
def show_alert(
    alert_id: AlertId, output: OutputOption = OutputFormat.TABLE, server: ServerOption = DEFAULT_SERVER
) -> None:
    """Show one alert with its evidence and history."""
    with open_channel(server, output) as channel:
        response = AlertServiceStub(channel).GetAlert(service.GetAlertRequest(id=alert_id), timeout=RPC_TIMEOUT_S)
    print_message(response, output, lambda: _print_whole_alert(response))


@app.command("ack")
def acknowledge_alert(
    alert_id: AlertId,
    actor: ActorOption,
    comment: CommentOption = "",
    output: OutputOption = OutputFormat.TABLE,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Acknowledge an alert: somebody takes care of it."""
    request = service.AcknowledgeAlertRequest(id=alert_id, actor=actor, comment=comment, request_id=new_request_id())
    with open_channel(server, output) as channel:
        response = AlertServiceStub(channel).AcknowledgeAlert(request, timeout=RPC_TIMEOUT_S)
    print_message(response.alert, output, lambda: _print_alerts([response.alert], output))


@app.command("resolve")
def resolve_alert(
    alert_id: AlertId,
    actor: ActorOption,
    comment: CommentOption = "",
    output: OutputOption = OutputFormat.TABLE,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Resolve an alert by hand."""
    request = service.ResolveAlertRequest(id=alert_id, actor=actor, comment=comment, request_id=new_request_id())
    with open_channel(server, output) as channel:
        response = AlertServiceStub(channel).ResolveAlert(request, timeout=RPC_TIMEOUT_S)
    print_message(response.alert, output, lambda: _print_alerts([response.alert], output))


@app.command("watch")
def watch_alerts(
    severities: SeverityOption = None,
    rule: RuleOption = "",
    resource: ResourceOption = "",
    output: OutputOption = OutputFormat.TABLE,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Watch alerts until Ctrl-C: first the open ones, then each change. JSON comes as one alert a line."""
    request = service.WatchAlertsRequest(severities=_severity_values(severities), rule_id=rule, resource=resource)
    with open_channel(server, output) as channel:
        try:
            for response in AlertServiceStub(channel).WatchAlerts(request):
                _print_change(response.alert, output)
        except KeyboardInterrupt:
            raise typer.Exit from None


def _severity_values(severities: list[SeverityChoice] | None) -> "list[AlertRule.Severity.ValueType]":
    return [AlertRule.Severity.Value(severity) for severity in severities or []]


def _print_alerts(alerts: list[Alert], output: OutputFormat) -> None:
    if output is OutputFormat.JSON:
        print_json([json_of(alert) for alert in alerts])
    else:
        print_table(_COLUMNS, [_row(alert) for alert in alerts], cut={"Rule", "Resource"})


def _row(alert: Alert) -> list[str | Text]:
    return [
        alert.id,
        format_styled(Alert.State.Name(alert.state), STATE_STYLE),
        format_styled(AlertRule.Severity.Name(alert.severity), SEVERITY_STYLE),
        alert.rule_name,
        alert.resource,
        str(alert.window.count),
        format_timestamp(alert.fire_time),
        str(alert.repeat_count),
    ]


def _print_change(alert: Alert, output: OutputFormat) -> None:
    if output is OutputFormat.JSON:
        print_json(json_of(alert), indent=None)
    else:
        name, state, severity, rule, resource, count, *_ = _row(alert)
        parts = [format_timestamp(alert.update_time), state, severity, rule, resource, f"count {count}", name]
        stdout.print(Text("  ").join(format_cell(part) for part in parts))


def _print_whole_alert(response: service.GetAlertResponse) -> None:
    alert = response.alert
    _print_alerts([alert], OutputFormat.TABLE)
    condition = f"{alert.window.condition} (threshold {format_number(alert.window.threshold)})"
    window = f"{format_timestamp(alert.window.start_time)} to {format_timestamp(alert.window.end_time)}"
    stdout.print(format_cell(f"condition {condition} in the window {window}"))
    _print_samples(alert)
    print_table(
        ["Time", "What", "Channel", "Who", "Comment", "Trace"],
        [
            [
                format_timestamp(entry.create_time),
                AlertHistoryEntry.Kind.Name(entry.kind),
                entry.channel,
                entry.actor,
                entry.comment,
                entry.trace_id,
            ]
            for entry in response.history
        ],
        title="History",
        cut={"Who", "Comment"},
    )


def _print_samples(alert: Alert) -> None:
    print_table(
        ["Event", "Time", "Level", "Service", "Message", "Trace"],
        [
            [
                str(number),
                format_timestamp(event.event_time),
                LogEvent.Level.Name(event.level),
                event.service,
                event.message,
                event.trace_id or "no trace id",
            ]
            for number, event in enumerate(alert.samples, 1)
        ],
        title="Evidence",
        cut={"Service", "Message"},
    )
    attributes = [
        [str(number), name, value]
        for number, event in enumerate(alert.samples, 1)
        for name, value in sorted(event.attributes.items())
    ]
    if attributes:
        print_table(["Event", "Attribute", "Value"], attributes, title="Attributes", cut={"Value"})
