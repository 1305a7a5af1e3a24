"""tocsin notifications: what was sent, what failed, and the circuit breakers of the channels."""

from enum import StrEnum
from typing import Annotated

import typer

from cli.client import DEFAULT_SERVER, RPC_TIMEOUT_S, ServerOption, list_rows, new_request_id, open_channel
from cli.lookup import (
    complete_alert,
    complete_incident,
    find_alert,
    find_failed_notification,
    find_incident,
)
from cli.output import (
    OutputFormat,
    OutputOption,
    format_cell,
    format_styled,
    format_timestamp,
    format_timestamp_ms,
    json_of,
    print_data,
    print_message,
    print_table,
    short_ids,
    stdout,
)
from tocsin.notifications.v1 import notification_service_pb2 as service
from tocsin.notifications.v1.notification_pb2 import CircuitBreaker, Delivery, FailedNotification, Notification
from tocsin.notifications.v1.notification_service_pb2_grpc import NotificationServiceStub

app = typer.Typer(no_args_is_help=True, help="See deliveries and circuit breakers; retry what failed.")

_BREAKER_STYLE = {"CLOSED": "green", "OPEN": "bold red", "HALF_OPEN": "yellow"}
_DELIVERY_STYLE = {
    "DELIVERED": "green",
    "FAILED": "bold red",
    "PENDING": "yellow",
    "IN_FLIGHT": "yellow",
    "HELD": "yellow",
}


class DeliveryStateChoice(StrEnum):
    """The states of the contract, as values of an option."""

    PENDING = "PENDING"
    IN_FLIGHT = "IN_FLIGHT"
    DELIVERED = "DELIVERED"
    FAILED = "FAILED"
    SUPERSEDED = "SUPERSEDED"
    HELD = "HELD"


ChannelOption = Annotated[str, typer.Option("--channel", help="Only of this channel.")]
LimitOption = Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="The maximum number to show.")]


@app.command("list")
def list_deliveries(
    *,
    alert: Annotated[
        str,
        typer.Option(
            "--alert", help="Only about this alert: its id or the id's beginning.", autocompletion=complete_alert
        ),
    ] = "",
    incident: Annotated[
        str,
        typer.Option(
            "--incident",
            help="Only about this incident: its id or the id's beginning.",
            autocompletion=complete_incident,
        ),
    ] = "",
    channel_name: ChannelOption = "",
    states: Annotated[
        list[DeliveryStateChoice] | None,
        typer.Option("--state", case_sensitive=False, help="Only in this state; may be repeated."),
    ] = None,
    limit: LimitOption = 50,
    output: OutputOption = OutputFormat.TABLE,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Show what was sent, to whom and when, the newest first."""
    request = service.ListDeliveriesRequest(
        channel=channel_name, states=[Delivery.State.Value(state) for state in states or []]
    )
    with open_channel(server, output) as channel:
        request.alert_id = find_alert(channel, alert, output)
        request.incident_id = find_incident(channel, incident, output)
        call = NotificationServiceStub(channel).ListDeliveries
        rows: list[Delivery] = list_rows(call, request, lambda page: page.deliveries, limit=limit)
    _print_deliveries(rows, output)


@app.command("failed")
def list_failed(
    channel_name: ChannelOption = "",
    limit: LimitOption = 50,
    output: OutputOption = OutputFormat.TABLE,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Show deliveries that failed after all attempts, the newest first."""
    request = service.ListFailedNotificationsRequest(channel=channel_name)
    with open_channel(server, output) as channel:
        call = NotificationServiceStub(channel).ListFailedNotifications
        rows: list[FailedNotification] = list_rows(call, request, lambda page: page.failed_notifications, limit=limit)
    _print_failed(rows, output)


@app.command("retry")
def retry_failed(
    notification_id: Annotated[
        str, typer.Argument(help="The id, or its beginning, as `tocsin notifications failed` shows it.")
    ],
    output: OutputOption = OutputFormat.TABLE,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Retry a failed delivery at once."""
    with open_channel(server, output) as channel:
        request = service.RetryFailedNotificationRequest(
            id=find_failed_notification(channel, notification_id, output), request_id=new_request_id()
        )
        response = NotificationServiceStub(channel).RetryFailedNotification(request, timeout=RPC_TIMEOUT_S)
    row = response.failed_notification
    print_message(row, output, lambda: _print_failed([row], output))


@app.command("breakers")
def list_breakers(output: OutputOption = OutputFormat.TABLE, server: ServerOption = DEFAULT_SERVER) -> None:
    """Show the circuit breaker of each channel."""
    request = service.ListCircuitBreakersRequest()
    with open_channel(server, output) as channel:
        response = NotificationServiceStub(channel).ListCircuitBreakers(request, timeout=RPC_TIMEOUT_S)
    _print_breakers(list(response.circuit_breakers), output)


def _print_deliveries(rows: list[Delivery], output: OutputFormat) -> None:
    if output.is_data:
        print_data([json_of(row) for row in rows], output)
        return
    is_wide = output is OutputFormat.WIDE
    alerts = short_ids(row.alert_id for row in rows)
    columns = ["Time", "About", "Channel", "To", "State", "Alert", "Attempts", "Last error"]
    print_table(
        [*columns, "Fallback for", "ID"] if is_wide else columns,
        [
            [
                format_timestamp_ms(row.update_time),
                Notification.Kind.Name(row.kind),
                row.channel,
                row.recipient or "-",
                format_styled(Delivery.State.Name(row.state), _DELIVERY_STYLE),
                row.alert_id if is_wide else alerts[row.alert_id],
                str(row.attempt_count),
                row.last_error,
                *([row.fallback_for, row.id] if is_wide else []),
            ]
            for row in rows
        ],
        cut={"Channel", "To", "Last error"},
        wide=is_wide,
    )


def _print_failed(rows: list[FailedNotification], output: OutputFormat) -> None:
    if output.is_data:
        print_data([json_of(row) for row in rows], output)
        return
    is_wide = output is OutputFormat.WIDE
    ids, alerts = short_ids(row.id for row in rows), short_ids(row.alert_id for row in rows)
    print_table(
        ["ID", "Channel", "Status", "Attempts", "Failed", "Alert"],
        [
            [
                row.id if is_wide else ids[row.id],
                row.channel,
                FailedNotification.Status.Name(row.status),
                str(row.attempt_count),
                format_timestamp(row.create_time),
                row.alert_id if is_wide else alerts[row.alert_id],
            ]
            for row in rows
        ],
        cut={"Channel"},
        wide=is_wide,
    )
    # Errors are sentences: they stand below, whole.
    for row in rows:
        about = f"{ids[row.id]} to {row.recipient or row.channel}: {row.last_error or 'no error is known'}"
        stdout.print(format_cell(about), soft_wrap=True)


def _print_breakers(rows: list[CircuitBreaker], output: OutputFormat) -> None:
    if output.is_data:
        print_data([json_of(row) for row in rows], output)
        return
    print_table(
        ["Channel", "State", "Failures", "Opens at", "Next probe"],
        [
            [
                row.channel,
                format_styled(CircuitBreaker.State.Name(row.state), _BREAKER_STYLE),
                str(row.failure_count),
                str(row.failure_threshold),
                format_timestamp(row.probe_time),
            ]
            for row in rows
        ],
    )
