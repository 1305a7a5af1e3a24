"""tocsin receivers: whom routes and escalation steps can name, and which channels that are."""

import typer

from cli.client import DEFAULT_SERVER, RPC_TIMEOUT_S, ServerOption, open_channel
from cli.output import OutputFormat, OutputOption, json_of, print_data, print_table
from tocsin.notifications.v1 import notification_service_pb2 as service
from tocsin.notifications.v1.notification_pb2 import Receiver
from tocsin.notifications.v1.notification_service_pb2_grpc import NotificationServiceStub

app = typer.Typer(no_args_is_help=True, help="See the receivers that the notifier's file names.")


@app.callback()
def receivers() -> None:
    """See the receivers that the notifier's file names."""


@app.command("list")
def list_receivers(output: OutputOption = OutputFormat.TABLE, server: ServerOption = DEFAULT_SERVER) -> None:
    """Show the receivers with their channels; each channel is also a receiver by its own name."""
    with open_channel(server, output) as channel:
        response = NotificationServiceStub(channel).ListReceivers(service.ListReceiversRequest(), timeout=RPC_TIMEOUT_S)
    if output.is_data:
        print_data([json_of(receiver) for receiver in response.receivers], output)
        return
    print_table(
        ["Receiver", "Channel", "Kind", "To", "When it fails"],
        [_row(receiver, channel) for receiver in response.receivers for channel in receiver.channels],
        cut={"To", "When it fails"},
        wide=output is OutputFormat.WIDE,
    )


def _row(receiver: Receiver, channel: Receiver.Channel) -> list[str]:
    return [receiver.name, channel.name, channel.kind, channel.recipient or "-", ", ".join(channel.fallback) or "-"]
