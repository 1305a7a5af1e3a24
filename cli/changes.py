"""tocsin changes: deployments and other changes of services, which alerts show."""

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated

import typer

from cli.alerts import parse_age, time_ago, user_name
from cli.client import DEFAULT_SERVER, RPC_TIMEOUT_S, ServerOption, list_rows, new_request_id, open_channel
from cli.output import (
    OutputFormat,
    OutputOption,
    format_short_timestamp,
    format_timestamp,
    json_of,
    print_data,
    print_message,
    print_table,
)
from services.contract.timestamps import timestamp_of
from services.domain.event_time import parse_rfc3339
from tocsin.changes.v1 import change_service_pb2 as service
from tocsin.changes.v1.change_service_pb2_grpc import ChangeServiceStub
from tocsin.changes.v1.service_change_pb2 import ServiceChange

app = typer.Typer(no_args_is_help=True, help="Record and list changes of services, such as deployments.")


class KindChoice(StrEnum):
    """The kinds of the contract, as values of an option."""

    DEPLOYMENT = "deployment"
    CONFIGURATION = "configuration"
    FEATURE_FLAG = "feature-flag"
    OTHER = "other"

    @property
    def value_in_contract(self) -> "ServiceChange.Kind.ValueType":
        """Return the kind of the contract."""
        return ServiceChange.Kind.Value(self.name)


def parse_time(text: str) -> datetime:
    """Return the time that a text in the form of RFC 3339 stands for."""
    found = parse_rfc3339(text)
    if found is None:
        raise typer.BadParameter(f'expected a time such as 2026-11-28T07:00:00Z, found "{text}"')
    seconds, nanoseconds = found
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=nanoseconds // 1000)


@app.command("record")
def record_change(
    service_name: Annotated[str, typer.Argument(metavar="SERVICE", help="The service's name, as in its events.")],
    *,
    kind: Annotated[
        KindChoice, typer.Option("--kind", case_sensitive=False, help="What was changed.")
    ] = KindChoice.DEPLOYMENT,
    version: Annotated[str, typer.Option("--version", help="The version, or what was changed to what.")] = "",
    actor: Annotated[
        str, typer.Option("--by", default_factory=user_name, show_default="your user name", help="Who changed it.")
    ],
    link: Annotated[str, typer.Option("--link", help="An http or https address that says more.")] = "",
    time: Annotated[
        datetime | None,
        typer.Option("--at", parser=parse_time, metavar="TIME", help="When, as 2026-11-28T07:00:00Z; else now."),
    ] = None,
    request_id: Annotated[
        str, typer.Option("--request-id", help="A UUID: a call that is repeated with it records one change.")
    ] = "",
    output: OutputOption = OutputFormat.TABLE,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Record a change of a service. Alerts of it, and of services that depend on it, show it for an hour."""
    change = ServiceChange(
        service=service_name,
        kind=kind.value_in_contract,
        version=version,
        actor=actor,
        link=link,
        time=timestamp_of(time),
    )
    request = service.RecordChangeRequest(change=change, request_id=request_id or new_request_id())
    with open_channel(server, output) as channel:
        recorded = ChangeServiceStub(channel).RecordChange(request, timeout=RPC_TIMEOUT_S).change
    print_message(recorded, output, lambda: _print_changes([recorded], output))


@app.command("list")
def list_changes(
    service_name: Annotated[str, typer.Argument(metavar="[SERVICE]", help="Only changes of this service.")] = "",
    *,
    kinds: Annotated[
        list[KindChoice] | None,
        typer.Option("--kind", case_sensitive=False, help="Only this kind; may be repeated."),
    ] = None,
    since: Annotated[
        timedelta | None,
        typer.Option("--since", parser=parse_age, metavar="AGE", help="Only of the last 90s, 15m, 2h, 7d, …"),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="The maximum number to show.")] = 50,
    output: OutputOption = OutputFormat.TABLE,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Show changes, the newest first."""
    request = service.ListChangesRequest(
        service=service_name,
        kinds=[kind.value_in_contract for kind in kinds or []],
        changed_after=time_ago(since),
    )
    with open_channel(server, output) as channel:
        call = ChangeServiceStub(channel).ListChanges
        changes: list[ServiceChange] = list_rows(call, request, lambda page: page.changes, limit=limit)
    if output.is_data:
        print_data([json_of(change) for change in changes], output)
    else:
        _print_changes(changes, output)


def _print_changes(changes: list[ServiceChange], output: OutputFormat) -> None:
    is_wide = output is OutputFormat.WIDE
    print_table(
        ["Time", "Service", "Kind", "Version", "By", "Link", *(["ID"] if is_wide else [])],
        [
            [
                format_timestamp(change.time) if is_wide else format_short_timestamp(change.time),
                change.service,
                ServiceChange.Kind.Name(change.kind),
                change.version or "-",
                change.actor,
                change.link or "-",
                *([change.id] if is_wide else []),
            ]
            for change in changes
        ],
        cut={"Version", "Link"},
        wide=is_wide,
    )
