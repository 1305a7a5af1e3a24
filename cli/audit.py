"""tocsin audit: who called what, when, from where, and how it ended."""

from datetime import timedelta
from enum import StrEnum
from typing import Annotated

import typer

from cli.alerts import parse_age, time_ago
from cli.client import DEFAULT_SERVER, ServerOption, list_rows, open_channel
from cli.keys import TenantOption
from cli.output import (
    OutputFormat,
    OutputOption,
    format_short_timestamp,
    format_timestamp,
    json_of,
    print_data,
    print_table,
)
from tocsin.access.v1.access_pb2 import Access
from tocsin.access.v1.access_service_pb2 import ListAuditRecordsRequest
from tocsin.access.v1.access_service_pb2_grpc import AccessServiceStub
from tocsin.access.v1.audit_record_pb2 import AuditRecord


class OutcomeChoice(StrEnum):
    """The outcomes of the contract, as values of an option."""

    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"


def print_audit_log(
    *,
    actor: Annotated[str, typer.Option("--actor", help="Only calls of this actor, by name.")] = "",
    since: Annotated[
        timedelta | None,
        typer.Option("--since", parser=parse_age, metavar="AGE", help="Only of the last 90s, 15m, 2h, 7d, …"),
    ] = None,
    method: Annotated[str, typer.Option("--method", help="Only rpcs with this in their names: CreateSilence.")] = "",
    outcomes: Annotated[
        list[OutcomeChoice] | None,
        typer.Option("--outcome", case_sensitive=False, help="Only calls that ended so; may be repeated."),
    ] = None,
    resource: Annotated[str, typer.Option("--resource", help="Only calls about this id or name.")] = "",
    tenant: TenantOption = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="The maximum number to show.")] = 50,
    output: OutputOption = OutputFormat.TABLE,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Show the audit log, the newest first: every command, and every call that was refused for who called."""
    request = ListAuditRecordsRequest(
        actor=actor,
        method=method,
        outcomes=[AuditRecord.Outcome.Value(outcome.name) for outcome in outcomes or []],
        resource=resource,
        tenant=tenant,
        created_after=time_ago(since),
    )
    with open_channel(server, output) as channel:
        call = AccessServiceStub(channel).ListAuditRecords
        records: list[AuditRecord] = list_rows(call, request, lambda page: page.records, limit=limit)
    if output.is_data:
        print_data([json_of(record) for record in records], output)
    else:
        _print_records(records, output)


def _print_records(records: list[AuditRecord], output: OutputFormat) -> None:
    is_wide = output is OutputFormat.WIDE
    columns = ["Time", "Actor", "Call", "About", "Outcome", "From", "Count"]
    print_table(
        [*columns, "Kind", "Actor's ID", "Role", "Service", "Request", "ID"] if is_wide else columns,
        [[*_cells(record, is_wide=is_wide), *(_further_cells(record) if is_wide else [])] for record in records],
        cut={"Actor", "About", "From"},
        wide=is_wide,
    )


def _cells(record: AuditRecord, *, is_wide: bool) -> list[str]:
    outcome = AuditRecord.Outcome.Name(record.outcome)
    why = f"{outcome} {record.reason or record.code}" if record.outcome != AuditRecord.DONE else outcome
    return [
        format_timestamp(record.create_time) if is_wide else format_short_timestamp(record.create_time),
        record.actor or record.actor_kind or "-",
        (record.method if is_wide else record.method.rpartition("/")[2]) or "-",
        record.resource or "-",
        why,
        record.peer_address or "-",
        str(record.count),
    ]


def _further_cells(record: AuditRecord) -> list[str]:
    return [
        record.actor_kind or "-",
        record.actor_id or "-",
        Access.Role.Name(record.role).lower() if record.role else "-",
        record.service,
        record.request_id or "-",
        record.id,
    ]
