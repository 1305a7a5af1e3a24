"""tocsin alerts: what is wrong now, and what was."""

import getpass
import os
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated

import typer
from google.protobuf.timestamp_pb2 import Timestamp

from cli.alert_tables import print_alerts, print_change, print_unchanged, print_whole_alert
from cli.client import DEFAULT_SERVER, RPC_TIMEOUT_S, ServerOption, list_rows, new_request_id, open_channel
from cli.label_matchers import check_matchers
from cli.lookup import complete_alert, complete_rule, find_alert
from cli.output import OutputFormat, OutputOption, print_message, print_to_stderr
from cli.rule_names import find_rule_id
from cli.watching import AlertWatch
from services.contract.timestamps import timestamp_of
from tocsin.alerts.v1 import alert_service_pb2 as service
from tocsin.alerts.v1.alert_pb2 import Alert
from tocsin.alerts.v1.alert_service_pb2_grpc import AlertServiceStub
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


AlertId = Annotated[
    str,
    typer.Argument(
        help="The alert's id, or its beginning, as `tocsin alerts list` shows it.", autocompletion=complete_alert
    ),
]
ActorOption = Annotated[
    str, typer.Option("--actor", default_factory=user_name, show_default="your user name", help="Who does it.")
]
CommentOption = Annotated[str, typer.Option("--comment", "-m", help="A comment for the history.")]
SeverityOption = Annotated[
    list[SeverityChoice] | None,
    typer.Option("--severity", case_sensitive=False, help="Only this severity; may be repeated."),
]
RuleOption = Annotated[
    str,
    typer.Option(
        "--rule", help="Only alerts of this rule: its name, its id or the id's beginning.", autocompletion=complete_rule
    ),
]
LabelsOption = Annotated[
    list[str] | None,
    typer.Option("--label", "-l", metavar="NAME=VALUE", help="Only with this label; may be repeated."),
]
MatchersOption = Annotated[
    list[str] | None,
    typer.Option(
        "--matcher",
        parser=check_matchers,
        metavar="MATCHERS",
        help='Only where these hold of the alert\'s labels, such as \'severity="CRITICAL", service=~"pay-.*"\'; may be '
        "repeated.",
    ),
]
ResourceOption = Annotated[str, typer.Option("--resource", help="Only alerts of this resource.")]

_UNITS = {"s": timedelta(seconds=1), "m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


def parse_age(text: str) -> timedelta:
    """Return the time span that a text such as 90s, 15m, 2h or 7d stands for."""
    number, unit = text[:-1], _UNITS.get(text[-1:])
    if unit is None or not (number.isascii() and number.isdigit()) or int(number) > _MAX_AGE:
        raise typer.BadParameter(f'found "{text}", expected a number with s, m, h or d, such as 90s, 15m, 2h or 7d')
    return int(number) * unit


def parse_labels(labels: list[str] | None) -> list[str]:
    """Return the labels of an option; each must have a name and a value."""
    for label in labels or []:
        name, separator, _ = label.partition("=")
        if not name or not separator:
            raise typer.BadParameter(f"expected NAME=VALUE, found {label!r}", param_hint="--label")
    return labels or []


# Of any unit: what is older than this was before the first log.
_MAX_AGE = 100_000


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
    labels: LabelsOption = None,
    matchers: MatchersOption = None,
    service_name: Annotated[
        str, typer.Option("--service", help="Only of this service: the group's, else that of a sample.")
    ] = "",
    since: Annotated[
        timedelta | None,
        typer.Option("--since", parser=parse_age, metavar="AGE", help="Only fired in the last 90s, 15m, 2h, 7d, …"),
    ] = None,
    older_than: Annotated[
        timedelta | None, typer.Option("--older-than", parser=parse_age, metavar="AGE", help="Only fired before that.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="The maximum number to show.")] = 50,
    output: OutputOption = OutputFormat.TABLE,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Show alerts, the newest first."""
    request = service.ListAlertsRequest(
        states=[Alert.State.Value(state) for state in states or []],
        severities=severity_values(severities),
        resource=resource,
        labels=parse_labels(labels),
        matchers=matchers,
        service=service_name,
        fired_after=time_ago(since),
        fired_before=time_ago(older_than),
    )
    with open_channel(server, output) as channel:
        request.rule_id = find_rule_id(channel, rule, output) if rule else ""
        call = AlertServiceStub(channel).ListAlerts
        alerts: list[Alert] = list_rows(call, request, lambda page: page.alerts, limit=limit)
    print_alerts(alerts, output)


@app.command("show")
def show_alert(
    alert_id: AlertId, output: OutputOption = OutputFormat.TABLE, server: ServerOption = DEFAULT_SERVER
) -> None:
    """Show one alert with its evidence, its history, and who was notified."""
    with open_channel(server, output) as channel:
        request = service.GetAlertRequest(id=find_alert(channel, alert_id, output))
        response = AlertServiceStub(channel).GetAlert(request, timeout=RPC_TIMEOUT_S)
    print_message(response, output, lambda: print_whole_alert(response))


@app.command("ack")
def acknowledge_alert(
    alert_id: AlertId,
    actor: ActorOption,
    comment: CommentOption = "",
    output: OutputOption = OutputFormat.TABLE,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Acknowledge an alert: somebody takes care of it. If somebody does already, only the comment is added."""
    with open_channel(server, output) as channel:
        request = service.AcknowledgeAlertRequest(
            id=find_alert(channel, alert_id, output), actor=actor, comment=comment, request_id=new_request_id()
        )
        response = AlertServiceStub(channel).AcknowledgeAlert(request, timeout=RPC_TIMEOUT_S)
    _print_action(response, comment, output)


@app.command("resolve")
def resolve_alert(
    alert_id: AlertId,
    actor: ActorOption,
    comment: CommentOption = "",
    output: OutputOption = OutputFormat.TABLE,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Resolve an alert by hand. If it is resolved already, only the comment is added."""
    with open_channel(server, output) as channel:
        request = service.ResolveAlertRequest(
            id=find_alert(channel, alert_id, output), actor=actor, comment=comment, request_id=new_request_id()
        )
        response = AlertServiceStub(channel).ResolveAlert(request, timeout=RPC_TIMEOUT_S)
    _print_action(response, comment, output)


@app.command("watch")
def watch_alerts(
    severities: SeverityOption = None,
    rule: RuleOption = "",
    resource: ResourceOption = "",
    output: OutputOption = OutputFormat.TABLE,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Watch alerts until Ctrl-C: first the open ones, then each change.

    JSON comes as one alert a line. When the connection breaks, it says so on standard error and connects again.
    """
    request = service.WatchAlertsRequest(severities=severity_values(severities), resource=resource)
    with open_channel(server, output) as channel:
        request.rule_id = find_rule_id(channel, rule, output) if rule else ""
        watch = AlertWatch(
            stub=AlertServiceStub(channel), request=request, notice=lambda text: print_to_stderr(f"{server}: {text}")
        )
        try:
            for alert in watch.changes():
                print_change(alert, output)
        except KeyboardInterrupt:
            raise typer.Exit from None


def time_ago(age: timedelta | None) -> Timestamp | None:
    """Return the time that was so long ago; None for no age."""
    return timestamp_of(max(datetime.now(UTC) - age, _OLDEST) if age is not None else None)


_OLDEST = datetime(1970, 1, 1, tzinfo=UTC)


def severity_values(severities: list[SeverityChoice] | None) -> "list[AlertRule.Severity.ValueType]":
    """Return the severities of the contract."""
    return [AlertRule.Severity.Value(severity) for severity in severities or []]


def _print_action(
    response: service.AcknowledgeAlertResponse | service.ResolveAlertResponse, comment: str, output: OutputFormat
) -> None:
    print_message(response.alert, output, lambda: print_alerts([response.alert], output))
    if response.unchanged:
        print_unchanged(response.alert, comment, output)
