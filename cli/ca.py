"""tocsin ca: a small authority for the certificates between the programs of one system."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.client import ExitCode
from cli.output import ErrorReport, OutputFormat, OutputOption, print_data, print_error, print_table, stdout
from stack.certificate_requests import (
    DEFAULT_DAYS,
    CertificateError,
    IssuedCertificate,
    client_request,
    server_request,
    service_request,
)
from stack.certificates import (
    forget_former_authority,
    init_authority,
    issue,
    list_certificates,
    renew_authority,
    rotate,
)

app = typer.Typer(
    no_args_is_help=True,
    help="Issue certificates for services, servers and clients, by an authority in a folder. DIR/ca has its key: keep "
    "it apart from the programs, each of which needs DIR/NAME alone.",
)


class ClientRole(StrEnum):
    """What a client's certificate lets it do."""

    INGEST = "ingest"
    VIEWER = "viewer"
    RESPONDER = "responder"
    EDITOR = "editor"
    ADMIN = "admin"


class CertifiedService(StrEnum):
    """The programs that have an identity."""

    INGEST = "ingest"
    EVALUATOR = "evaluator"
    MANAGER = "manager"
    NOTIFIER = "notifier"
    GATEWAY = "gateway"
    PROMETHEUS = "prometheus"


FolderArgument = Annotated[Path, typer.Argument(metavar="DIR", help="The authority's folder.")]


@app.command("init")
def create_authority(folder: FolderArgument, *, output: OutputOption = OutputFormat.TABLE) -> None:
    """Create the authority: its certificate DIR/ca/ca.pem, and its key, which only you can read."""
    with _exit_on_refusal(folder, output):
        certificate = init_authority(folder, now=datetime.now(UTC))
    _print_line(
        {"ca": str(certificate)}, f"{certificate} is the authority's certificate; its key lies beside it", output
    )


@app.command("issue")
def issue_certificate(
    folder: FolderArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its files are in DIR/NAME.")],
    *,
    service: Annotated[
        CertifiedService | None, typer.Option("--service", help="Of a service: the gateway, for example.")
    ] = None,
    client: Annotated[str, typer.Option("--client", help="Of a person or a program of this name.")] = "",
    role: Annotated[ClientRole | None, typer.Option("--role", help="What the client may do.")] = None,
    tenant: Annotated[str, typer.Option("--tenant", help="The client's tenant.")] = "default",
    dns: Annotated[
        list[str] | None,
        typer.Option("--dns", help="A host name or address of the server, beside those of this machine; repeatable."),
    ] = None,
    days: Annotated[int, typer.Option("--days", help="For how many days it is valid.")] = DEFAULT_DAYS,
    group_readable: Annotated[
        bool, typer.Option("--group-readable", help="The key's group may read it, beside its owner.")
    ] = False,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Issue a certificate over the former one of this name: for a service, a client, or else a server as the edge."""
    if service and client:
        raise typer.BadParameter("expected one of --service and --client, found both")
    if bool(client) != bool(role):
        raise typer.BadParameter("--client and --role are given together")
    with _exit_on_refusal(folder, output):
        hosts = tuple(dns or ())
        if service:
            request = service_request(service, hosts, name=name, days=days, group_readable=group_readable)
        elif role:
            request = client_request(
                client, name=name, role=role, tenant=tenant, days=days, group_readable=group_readable
            )
        else:
            request = server_request(name, hosts, days=days, group_readable=group_readable)
        _print_issued([issue(folder, request, now=datetime.now(UTC))], output)


@app.command("rotate")
def rotate_certificates(
    folder: FolderArgument,
    *,
    authority: Annotated[
        bool, typer.Option("--ca", help="Create a new authority; the former one is trusted beside it.")
    ] = False,
    forget: Annotated[
        bool, typer.Option("--forget", help="Trust a former authority no longer; refused while it has signed any.")
    ] = False,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Issue all certificates of the folder anew; programs read theirs within seconds, without a restart.

    A new authority takes three calls, so that nobody meets a certificate that it does not trust: with --ca, without an
    option, and with --forget, each after the programs have read their files.
    """
    if authority and forget:
        raise typer.BadParameter("expected one of --ca and --forget, found both")
    with _exit_on_refusal(folder, output):
        if authority:
            path = renew_authority(folder, now=datetime.now(UTC))
            _print_line(
                {"ca": str(path)}, f"{path} has a new authority, and the former one; next: tocsin ca rotate", output
            )
        elif forget:
            forget_former_authority(folder)
            _print_line({"forgotten": True}, "the present authority alone is trusted", output)
        else:
            _print_issued(rotate(folder, now=datetime.now(UTC)), output)


@app.command("list")
def list_issued(folder: FolderArgument, *, output: OutputOption = OutputFormat.TABLE) -> None:
    """List the certificates of the folder, and when they expire."""
    with _exit_on_refusal(folder, output):
        _print_issued(list_certificates(folder), output)


@contextmanager
def _exit_on_refusal(folder: Path, output: OutputFormat) -> Iterator[None]:
    try:
        yield
    except CertificateError as refusal:
        _refuse("FAILED_PRECONDITION", str(refusal), folder, output)
    except OSError as error:
        _refuse("FAILED_PRECONDITION", f"{error.filename}: {error.strerror}", folder, output)


def _refuse(code: str, message: str, folder: Path, output: OutputFormat) -> None:
    print_error(ErrorReport(code=code, message=message), output, source=str(folder))
    raise typer.Exit(ExitCode.REFUSED) from None


def _print_line(data: dict[str, Any], line: str, output: OutputFormat) -> None:
    if output.is_data:
        print_data(data, output)
    else:
        stdout.print(line, soft_wrap=True)


def _print_issued(issued: Sequence[IssuedCertificate], output: OutputFormat) -> None:
    if output.is_data:
        print_data([_record(one) for one in issued], output)
        return
    rows = [
        [one.name, f"{one.expires:%Y-%m-%d %H:%M}", one.identity or "-", str(one.files.certificate.parent)]
        for one in issued
    ]
    print_table(["Name", "Expires", "Identity", "Folder"], rows, wide=output is OutputFormat.WIDE)


def _record(one: IssuedCertificate) -> dict[str, str]:
    files = {"certificate": one.files.certificate, "key": one.files.key, "ca": one.files.ca}
    return {
        "name": one.name,
        "identity": one.identity,
        "expires": one.expires.isoformat(),
        **{kind: str(path) for kind, path in files.items()},
    }
