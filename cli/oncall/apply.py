"""tocsin oncall apply: make the stored people, schedules and policies those of files, by name."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import grpc
import typer

from cli.client import (
    DEFAULT_SERVER,
    RPC_TIMEOUT_S,
    ExitCode,
    ServerOption,
    error_report_of,
    new_request_id,
    open_channel,
)
from cli.document_files import files_of
from cli.file_changes import (
    ChangeKind,
    DiffOption,
    DryRunOption,
    FileChange,
    SureOption,
    ask_before_deleting,
    differences_of,
    print_changes,
)
from cli.oncall.documents import NOUNS, FileResource, load_resources, normalized, place_of, request_of, written_document
from cli.oncall.listing import all_resources
from cli.output import ErrorDetail, ErrorReport, OutputFormat, OutputOption, print_error, print_warnings
from tocsin.oncall.v1 import on_call_service_pb2 as service
from tocsin.oncall.v1.on_call_service_pb2 import AppliedOnCall, ApplyOnCallResponse
from tocsin.oncall.v1.on_call_service_pb2_grpc import OnCallServiceStub


def apply_on_call(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="FILE|DIR", help="YAML or JSON files, or folders of them; - is stdin."),
    ],
    *,
    show_diff: DiffOption = False,
    prune: Annotated[bool, typer.Option("--prune", help="Delete all that is in none of the files.")] = False,
    is_sure: SureOption = False,
    is_dry_run: DryRunOption = False,
    output: OutputOption = OutputFormat.TABLE,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Create or replace the people, schedules and policies of files by their names, all of them or none.

    Each is replaced whole: what its file leaves out is cleared. What is in none of the files stays as it is, unless
    --prune deletes it, after those of the files are stored; before that it names what it deletes and asks.

    Exit code 1 when one is refused, 2 when one cannot be read; the error names all problems.
    """
    files = files_of(paths, output)
    source = str(files[0]) if len(files) == 1 else f"{len(files)} files"
    resources, problems = load_resources(files, output)
    problems += [each.detail(name, why) for each in resources for name, why in each.problems]
    if problems:
        _reject(problems, source, output, ExitCode.USAGE)
    request = request_of(resources)
    request.validate_only, request.request_id = is_dry_run, new_request_id()
    with open_channel(server, output) as channel:
        stub = OnCallServiceStub(channel)
        before = {(key, each.name): written_document(each) for key in NOUNS for each in all_resources(stub, key)}
        deleted = _in_no_file(before, resources) if prune else []
        if not is_dry_run and not is_sure:
            ask_before_deleting([f"{NOUNS[key]} {name}" for key, name in deleted], "entries", output)
        with _refusals(resources, source, output):
            response = stub.ApplyOnCall(request, timeout=RPC_TIMEOUT_S)
        changes = _changes(resources, response, before)
        try:
            for key, name in deleted:
                if not is_dry_run:
                    delete_on_call_resource(stub, key, name)
                changes.append(FileChange(kind=ChangeKind.DELETED, name=f"{NOUNS[key]} {name}", differences={}))
        finally:
            # Also when one is still in use.
            print_changes(changes, output, show_diff=show_diff, is_dry_run=is_dry_run, has_ids=False)
    print_warnings([_detail(warning.field, warning.description, resources) for warning in response.warnings], output)


def delete_on_call_resource(stub: OnCallServiceStub, key: str, name: str) -> None:
    """Delete a person, a schedule or a policy, which nothing may use."""
    match key:
        case "people":
            stub.DeletePerson(service.DeletePersonRequest(name=name), timeout=RPC_TIMEOUT_S)
        case "schedules":
            stub.DeleteSchedule(service.DeleteScheduleRequest(name=name), timeout=RPC_TIMEOUT_S)
        case _:
            request = service.DeleteEscalationPolicyRequest(name=name)
            stub.DeleteEscalationPolicy(request, timeout=RPC_TIMEOUT_S)


def _in_no_file(stored: Iterable[tuple[str, str]], resources: Sequence[FileResource]) -> list[tuple[str, str]]:
    """Return what no file has, in an order in which nothing is deleted before what uses it."""
    kept = {(each.key, each.message.name) for each in resources}
    order = list(NOUNS)[::-1]
    return sorted(set(stored) - kept, key=lambda each: (order.index(each[0]), each[1]))


def _changes(
    resources: Sequence[FileResource],
    response: ApplyOnCallResponse,
    before: Mapping[tuple[str, str], dict[str, Any]],
) -> list[FileChange]:
    # As they stand in the request: by kind, and in the files' order.
    ordered = [each for key in NOUNS for each in resources if each.key == key]
    return [
        _change(each, result, before.get((each.key, result.name), {}))
        for each, result in zip(ordered, response.results, strict=True)
    ]


def _change(resource: FileResource, result: AppliedOnCall, before: dict[str, Any]) -> FileChange:
    return FileChange(
        kind=ChangeKind(AppliedOnCall.Change.Name(result.change).lower()),
        name=f"{NOUNS[resource.key]} {result.name}",
        differences=differences_of(before, written_document(normalized(resource.message))),
    )


@contextmanager
def _refusals(resources: Sequence[FileResource], source: str, output: OutputFormat) -> Iterator[None]:
    """End the command with what the server refuses of files, in the words of the files."""
    try:
        yield
    except grpc.RpcError as error:
        report = error_report_of(error)
        if error.code() is not grpc.StatusCode.INVALID_ARGUMENT or not report.details:
            raise
        details = [_detail(each.field, each.description, resources) for each in report.details]
        _reject(details, source, output, ExitCode.REFUSED)


def _detail(name: str, description: str, resources: Sequence[FileResource]) -> ErrorDetail:
    resource, rest = place_of(name, resources)
    if resource is None:
        return ErrorDetail(field=name, description=description)
    return resource.detail(rest, description)


def _reject(details: Sequence[ErrorDetail], source: str, output: OutputFormat, code: ExitCode) -> NoReturn:
    labels = dict.fromkeys(f'"{detail.rule}"' if detail.rule else detail.field for detail in details)
    report = ErrorReport(code="INVALID_ARGUMENT", message=f"not allowed: {', '.join(labels)}", details=details)
    print_error(report, output, source=source)
    raise typer.Exit(code) from None
