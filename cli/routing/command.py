"""tocsin routing: set the routing tree, look at it, and see what would happen to an alert."""

import difflib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import grpc
import typer
import yaml

from cli.alerts import ActorOption
from cli.client import (
    DEFAULT_SERVER,
    RPC_TIMEOUT_S,
    ExitCode,
    ServerOption,
    error_report_of,
    list_rows,
    new_request_id,
    open_channel,
)
from cli.file_changes import DryRunOption
from cli.label_matchers import format_labels
from cli.output import (
    ErrorDetail,
    ErrorReport,
    OutputFormat,
    OutputOption,
    format_cell,
    format_timestamp,
    json_of,
    print_data,
    print_error,
    print_fields,
    print_table,
    print_warnings,
    stdout,
)
from cli.routing.drawing import route_fields, routing_lines, rule_text, step_lines
from cli.routing.tree_file import file_field, load_tree, tree_document
from tocsin.routing.v1 import routing_service_pb2 as service
from tocsin.routing.v1.routing_service_pb2_grpc import RoutingServiceStub
from tocsin.routing.v1.routing_tree_pb2 import RoutingTree

app = typer.Typer(no_args_is_help=True, help="Who is notified of which alerts: the routing tree.")

TreeFileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="A YAML or JSON file with a tree; - is stdin.")]
MessageOption = Annotated[str, typer.Option("--message", "-m", help="Why.")]
_STYLES = {"+": "green", "-": "red"}


@app.command("show")
def show_tree(
    version: Annotated[int | None, typer.Option("--version", min=1, help="An earlier version.")] = None,
    *,
    output: OutputOption = OutputFormat.TABLE,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Draw the routing tree; as YAML or JSON it is what `routing set` takes."""
    with open_channel(server, output) as channel:
        request = service.GetRoutingRequest(version=version or 0)
        routing = RoutingServiceStub(channel).GetRouting(request, timeout=RPC_TIMEOUT_S).routing
    if output.is_data:
        print_data(tree_document(routing.tree), output)
        return
    stdout.print(format_cell(_version_line(routing)), soft_wrap=True)
    for line in routing_lines(routing.tree):
        stdout.print(line, soft_wrap=True)


@app.command("set")
def set_tree(
    file: TreeFileArgument,
    *,
    author: ActorOption,
    message: MessageOption = "",
    show_diff: Annotated[bool, typer.Option("--diff", help="Show which lines of the tree change.")] = False,
    is_dry_run: DryRunOption = False,
    output: OutputOption = OutputFormat.TABLE,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Make a file's tree the routing tree, as a new version.

    Exit code 1 when it is refused, 2 when it cannot be read.
    """
    tree = load_tree(file, output)
    with open_channel(server, output) as channel:
        stub = RoutingServiceStub(channel)
        before = _newest(stub)
        request = service.SetRoutingRequest(
            tree=tree, author=author, comment=message, etag=before.etag, request_id=new_request_id()
        )
        request.validate_only = is_dry_run
        with _refusals_of(file, output):
            response = stub.SetRouting(request, timeout=RPC_TIMEOUT_S)
    if show_diff and not output.is_data:
        _print_diff(before, tree)
    _report(response, output, is_dry_run=is_dry_run)


@app.command("check")
def check_tree(
    file: TreeFileArgument, output: OutputOption = OutputFormat.TABLE, server: ServerOption = DEFAULT_SERVER
) -> None:
    """Check a file's tree with the receivers and policies that there are. Exit code 1 when it would be refused."""
    tree = load_tree(file, output)
    with open_channel(server, output) as channel:
        request = service.SetRoutingRequest(tree=tree, validate_only=True)
        with _refusals_of(file, output):
            response = RoutingServiceStub(channel).SetRouting(request, timeout=RPC_TIMEOUT_S)
    if output.is_data:
        print_data({"problems": [], "warnings": [json_of(warning) for warning in response.warnings]}, output)
        return
    print_warnings(_warnings(response.warnings), output)
    stdout.print(f"{file}: the manager takes it", soft_wrap=True)


@app.command("test")
def explain_labels(
    labels: Annotated[
        list[str], typer.Argument(metavar="NAME=VALUE…", help="The alert's labels: team=shop severity=HIGH.")
    ],
    *,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="Try this file's tree, not the present one.")
    ] = None,
    output: OutputOption = OutputFormat.TABLE,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Show what would happen to an alert with these labels now, step by step. Nothing is sent."""
    request = service.ExplainRoutingRequest(labels=_labels_of(labels))
    if file is not None:
        request.tree.CopyFrom(load_tree(file, output))
    with open_channel(server, output) as channel:
        stub = RoutingServiceStub(channel)
        with _refusals_of(file, output):
            response = stub.ExplainRouting(request, timeout=RPC_TIMEOUT_S)
    if output.is_data:
        print_data(json_of(response), output)
    else:
        _print_explanation(response)


@app.command("versions")
def list_versions(
    *,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many at most.")] = 20,
    output: OutputOption = OutputFormat.TABLE,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Show who set the tree, when and why, the newest version first."""
    with open_channel(server, output) as channel:
        request = service.ListRoutingVersionsRequest()
        stub = RoutingServiceStub(channel)
        versions = list_rows(stub.ListRoutingVersions, request, lambda page: page.versions, limit=limit)
    if output.is_data:
        print_data([json_of(each) for each in versions], output)
        return
    rows = [[str(each.version), format_timestamp(each.create_time), each.author, each.comment] for each in versions]
    print_table(["Version", "Set", "Author", "Comment"], rows, cut={"Comment"}, wide=output is OutputFormat.WIDE)


@app.command("rollback")
def roll_back(
    version: Annotated[int, typer.Argument(min=1, help="The number of an earlier version.")],
    *,
    author: ActorOption,
    message: MessageOption = "",
    output: OutputOption = OutputFormat.TABLE,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Set the tree of an earlier version again, as a new version."""
    with open_channel(server, output) as channel:
        request = service.RollbackRoutingRequest(
            version=version, author=author, comment=message, request_id=new_request_id()
        )
        response = RoutingServiceStub(channel).RollbackRouting(request, timeout=RPC_TIMEOUT_S)
    _report(response, output)


def _newest(stub: RoutingServiceStub) -> service.Routing:
    """Return the newest version; an empty one where no tree was ever set."""
    try:
        return stub.GetRouting(service.GetRoutingRequest(), timeout=RPC_TIMEOUT_S).routing
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.NOT_FOUND:
            raise
        return service.Routing()


@contextmanager
def _refusals_of(file: Path | None, output: OutputFormat) -> Iterator[None]:
    """End the command with what the server refuses of a file, in the words of the file."""
    try:
        yield
    except grpc.RpcError as error:
        if file is None or error.code() is not grpc.StatusCode.INVALID_ARGUMENT:
            raise
        report = error_report_of(error)
        details = [ErrorDetail(field=file_field(each.field), description=each.description) for each in report.details]
        message = f"not allowed: {', '.join(detail.field for detail in details)}" if details else report.message
        print_error(ErrorReport(code=report.code, message=message, details=details), output, source=str(file))
        raise typer.Exit(ExitCode.REFUSED) from None


def _report(
    response: service.SetRoutingResponse | service.RollbackRoutingResponse,
    output: OutputFormat,
    *,
    is_dry_run: bool = False,
) -> None:
    print_warnings(_warnings(response.warnings), output)
    routing = response.routing
    if output.is_data:
        print_data(json_of(routing) | {"unchanged": response.unchanged}, output)
    elif response.unchanged:
        stdout.print(f"unchanged: version {routing.version} has this tree" if routing.version else "unchanged")
    elif is_dry_run:
        stdout.print("would be set")
    else:
        stdout.print(f"version {routing.version} is set")


def _warnings(warnings: Sequence[service.RoutingWarning]) -> list[ErrorDetail]:
    return [ErrorDetail(field=file_field(each.field), description=each.description) for each in warnings]


def _version_line(routing: service.Routing) -> str:
    comment = f": {routing.comment}" if routing.comment else ""
    return f"version {routing.version}, set {format_timestamp(routing.create_time)} by {routing.author}{comment}"


def _print_diff(before: service.Routing, tree: RoutingTree) -> None:
    former = f"version {before.version}" if before.version else "no tree"
    lines = difflib.unified_diff(_yaml_lines(before.tree), _yaml_lines(tree), former, "this file", lineterm="")
    for line in lines:
        stdout.print(format_cell(line), style=_STYLES.get(line[:1], ""), soft_wrap=True)


def _yaml_lines(tree: RoutingTree) -> list[str]:
    document = tree_document(tree)
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True).splitlines() if document else []


def _labels_of(texts: Sequence[str]) -> dict[str, str]:
    labels = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not name or not separator:
            raise typer.BadParameter(f"expected NAME=VALUE, found {text!r}", param_hint="LABELS")
        labels[name] = value
    return labels


def _print_explanation(response: service.ExplainRoutingResponse) -> None:
    stdout.print(format_cell(f"an alert with {format_labels(response.labels)}"), soft_wrap=True)
    if response.is_decided_by_file:
        stdout.print("No routing tree was ever set: the routes of the notifier's file decide (tocsin routes test).")
    for line in step_lines(response.steps):
        stdout.print(line, soft_wrap=True)
    for route in response.routes:
        print_fields({name: value for name, value in route_fields(route).items() if value})
    for silence in response.silences:
        why = f"silence {silence.id} holds of it, by {silence.author}: {silence.comment}"
        stdout.print(format_cell(why), style="yellow", soft_wrap=True)
    if response.dependency_alert_id:
        path = f"inhibited by {response.dependency_alert_id} along {response.dependency_path}"
        stdout.print(format_cell(path), style="yellow", soft_wrap=True)
    for inhibition in response.inhibitions:
        lines = (rule_text(inhibition.rule), f"  {inhibition.reason}", *(f"  {each}" for each in inhibition.alert_ids))
        for text in lines:
            stdout.print(format_cell(text), soft_wrap=True)
