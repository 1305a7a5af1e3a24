"""tocsin keys: who may call Tocsin, and with what."""

import os
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cli.alerts import parse_age
from cli.client import DEFAULT_SERVER, RPC_TIMEOUT_S, ExitCode, ServerOption, list_rows, new_request_id, open_channel
from cli.output import (
    ErrorReport,
    OutputFormat,
    OutputOption,
    format_styled,
    format_timestamp,
    json_of,
    print_data,
    print_error,
    print_message,
    print_table,
    print_to_stderr,
    stdout,
)
from services.contract.timestamps import timestamp_of
from stack.first_key import KeyRefusedError, create_first_key
from stack.local_system import default_folder
from stack.wiring import database_environ, stored_wiring
from tocsin.access.v1 import access_service_pb2 as service
from tocsin.access.v1.access_pb2 import Access
from tocsin.access.v1.access_service_pb2_grpc import AccessServiceStub
from tocsin.access.v1.api_key_pb2 import ApiKey

app = typer.Typer(no_args_is_help=True, help="Make, list and revoke API keys.")

_STYLE = {"ACTIVE": "green", "EXPIRED": "dim", "REVOKED": "dim"}
_DATABASE_URL = "MANAGER_DATABASE_URL"


class RoleChoice(StrEnum):
    """The roles that a key may have, as values of an option."""

    INGEST = "ingest"
    VIEWER = "viewer"
    RESPONDER = "responder"
    EDITOR = "editor"
    ADMIN = "admin"


class KeyStateChoice(StrEnum):
    """The states of the contract, as values of an option."""

    ACTIVE = "ACTIVE"
    EXPIRED = "EXPIRED"
    REVOKED = "REVOKED"


TenantOption = Annotated[
    str, typer.Option("--tenant", help="Another tenant than the caller's; for callers of the tenant default.")
]


@app.command("create")
def create_api_key(
    *,
    name: Annotated[str, typer.Option("--name", help="Who acts with it, as histories show it.")],
    role: Annotated[
        RoleChoice | None, typer.Option("--role", case_sensitive=False, help="What its holder may do.")
    ] = None,
    tenant: TenantOption = "",
    expires: Annotated[
        timedelta | None,
        typer.Option("--expires", parser=parse_age, metavar="SPAN", help="After which time: 12h, 90d; else never."),
    ] = None,
    services: Annotated[
        list[str] | None,
        typer.Option("--service", help="With the role ingest: a service whose events it may send; may be repeated."),
    ] = None,
    is_bootstrap: Annotated[
        bool,
        typer.Option(
            "--bootstrap",
            help="Make it in the manager's database, without a key: the first one of a system, an admin's without "
            f"--role. The database is that of --database-url-file, of {_DATABASE_URL}, or of the last `tocsin up`.",
        ),
    ] = False,
    database_url_file: Annotated[
        Path | None, typer.Option("--database-url-file", help="With --bootstrap: a file with the database's URL.")
    ] = None,
    output: OutputOption = OutputFormat.TABLE,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Make a key, and print its text: nothing else has it, and nothing shows it again."""
    if is_bootstrap:
        if expires or services:
            raise typer.BadParameter("--expires and --service do not go with --bootstrap")
        _print_first_key(name, role or RoleChoice.ADMIN, tenant, database_url_file, output)
        return
    if role is None:
        raise typer.BadParameter(f"expected one of {', '.join(RoleChoice)}, found nothing", param_hint="--role")
    key = ApiKey(name=name, role=Access.Role.Value(role.name), tenant=tenant, services=services or [])
    if expires is not None:
        key.expire_time.CopyFrom(timestamp_of(datetime.now(UTC) + expires))
    request = service.CreateKeyRequest(key=key, request_id=new_request_id())
    with open_channel(server, output) as channel:
        response = AccessServiceStub(channel).CreateKey(request, timeout=RPC_TIMEOUT_S)
    print_message(response, output, lambda: _print_text(response.text, response.key.id))


@app.command("list")
def list_keys(
    *,
    states: Annotated[
        list[KeyStateChoice] | None,
        typer.Option("--state", case_sensitive=False, help="Only keys in this state; may be repeated."),
    ] = None,
    name: Annotated[str, typer.Option("--name", help="Only keys of this name.")] = "",
    tenant: TenantOption = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="The maximum number to show.")] = 500,
    output: OutputOption = OutputFormat.TABLE,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Show keys, the newest first, without their texts."""
    request = service.ListKeysRequest(
        states=[ApiKey.State.Value(state.name) for state in states or []], name=name, tenant=tenant
    )
    with open_channel(server, output) as channel:
        call = AccessServiceStub(channel).ListKeys
        keys: list[ApiKey] = list_rows(call, request, lambda page: page.keys, limit=limit)
    if output.is_data:
        print_data([json_of(key) for key in keys], output)
    else:
        _print_keys(keys, output)


@app.command("revoke")
def revoke_api_key(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The key's id, as `tocsin keys list` shows it.")],
    *,
    tenant: TenantOption = "",
    output: OutputOption = OutputFormat.TABLE,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Revoke a key: within five seconds nobody is let in with it any more."""
    request = service.RevokeKeyRequest(id=key_id, tenant=tenant, request_id=new_request_id())
    with open_channel(server, output) as channel:
        response = AccessServiceStub(channel).RevokeKey(request, timeout=RPC_TIMEOUT_S)
    said = "was revoked before" if response.unchanged else "is revoked"
    print_message(response, output, lambda: stdout.print(f"{response.key.id} of {response.key.name} {said}"))


def _print_first_key(name: str, role: RoleChoice, tenant: str, url_file: Path | None, output: OutputFormat) -> None:
    try:
        variables = {} if url_file is None else {_DATABASE_URL: url_file.read_text().strip()}
    except OSError as error:
        raise typer.BadParameter(f"{url_file}: {error.strerror}", param_hint="--database-url-file") from None
    if not variables and not {_DATABASE_URL, f"{_DATABASE_URL}_FILE"} & set(os.environ):
        variables = database_environ(stored_wiring(default_folder(os.environ)))
    try:
        key = create_first_key(variables, name=name, role=role.value, tenant=tenant)
    except KeyRefusedError as error:
        print_error(ErrorReport(code="REFUSED", message=str(error)), output, source="keys create --bootstrap")
        raise typer.Exit(ExitCode.REFUSED) from None
    if output.is_data:
        shown = {"id": key.id, "name": key.name, "role": key.role.upper(), "tenant": key.tenant}
        print_data({"key": shown, "text": key.text}, output)
    else:
        _print_text(key.text, key.id)


def _print_text(text: str, key_id: str) -> None:
    """Print the text alone to standard output, so that it can go into a file."""
    print_to_stderr(f"Keep this key: it is shown this once. `tocsin keys revoke {key_id}` ends it.")
    stdout.print(text, soft_wrap=True)


def _print_keys(keys: list[ApiKey], output: OutputFormat) -> None:
    print_table(
        ["ID", "State", "Name", "Role", "Services", "Made", "By", "Expires", "Last used"],
        [
            [
                key.id,
                format_styled(ApiKey.State.Name(key.state), _STYLE),
                key.name,
                Access.Role.Name(key.role).lower(),
                ", ".join(key.services) or "-",
                format_timestamp(key.create_time),
                key.creator,
                format_timestamp(key.expire_time),
                format_timestamp(key.last_use_time),
            ]
            for key in keys
        ],
        cut={"Services", "Name", "By"},
        wide=output is OutputFormat.WIDE,
    )
