"""tocsin catalog apply: make the stored services those of files, by name, as often as wanted."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import grpc
import typer

from cli.catalog.entries import FileEntry, load_entries, written_fields
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
from cli.output import ErrorDetail, ErrorReport, OutputFormat, OutputOption, json_of, print_error, print_warnings
from tocsin.catalog.v1 import catalog_service_pb2 as service
from tocsin.catalog.v1.catalog_service_pb2_grpc import CatalogServiceStub
from tocsin.catalog.v1.service_entry_pb2 import ServiceEntry

# Of one call.
_MAX_ENTRIES = 1000
_MAX_BYTES = 4 * 1024 * 1024

Fields = Mapping[str, Any]


def apply_services(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE|DIR",
            help="YAML or JSON files, Backstage's catalog-info.yaml too, or folders of them; - is stdin.",
        ),
    ],
    *,
    show_diff: DiffOption = False,
    prune: Annotated[bool, typer.Option("--prune", help="Delete all services that are in none of the files.")] = False,
    is_sure: SureOption = False,
    is_dry_run: DryRunOption = False,
    output: OutputOption = OutputFormat.TABLE,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Make the stored services those of files: create, replace or leave each by its name. Nothing when one is invalid.

    A service is replaced whole: what its file leaves out is cleared. Of Backstage's files the Components are taken.
    Before --prune deletes any, it names them and asks.

    Exit code 1 when a service is refused or the answer is no, 2 when one cannot be read; the error names all problems
    of all services.
    """
    files = files_of(paths, output)
    source = str(files[0]) if len(files) == 1 else f"{len(files)} files"
    loaded = load_entries(files, output)
    print_warnings(loaded.skipped, output)
    done: list[FileChange] = []
    with open_channel(server, output) as channel:
        stub = CatalogServiceStub(channel)
        warnings = _check(stub, loaded.entries, source, output)
        before = {entry.name: written_fields(json_of(entry)) for entry in all_services(stub)}
        deleted = sorted(before.keys() - {each.entry.name for each in loaded.entries}) if prune else []
        if not is_dry_run and not is_sure:
            ask_before_deleting(deleted, "services", output)
        try:
            for part in _parts(loaded.entries):
                done += _apply(stub, part, before, is_dry_run=is_dry_run)
            for name in deleted:
                done.append(_delete(stub, name, is_dry_run=is_dry_run))
        finally:
            # Also when the server refuses a part, or goes away in between.
            print_changes(done, output, show_diff=show_diff, is_dry_run=is_dry_run, has_ids=False)
    print_warnings(warnings, output)


def all_services(stub: CatalogServiceStub, *, owner: str = "") -> list[ServiceEntry]:
    """Return all services, or those of an owner."""
    return list_rows(stub.ListServices, service.ListServicesRequest(owner=owner), lambda page: page.services)


def _check(
    stub: CatalogServiceStub, entries: Sequence[FileEntry], source: str, output: OutputFormat
) -> list[ErrorDetail]:
    """Return what the server finds odd; end the command with all that is wrong in the files or not allowed."""
    readable = [each for each in entries if not each.problems]
    warnings: list[ErrorDetail] = []
    refused: list[ErrorDetail] = []
    try:
        for part in _parts(readable):
            found, details = _validate(stub, part)
            warnings += found
            refused += details
    except grpc.RpcError:
        # What is wrong in a file is said also when the server cannot be asked.
        _exit_if_wrong(entries, [], source, output)
        raise
    _exit_if_wrong(entries, refused, source, output)
    return warnings


def _validate(stub: CatalogServiceStub, part: Sequence[FileEntry]) -> tuple[list[ErrorDetail], list[ErrorDetail]]:
    """Return warnings about entries, and all that is wrong with them."""
    request = service.ApplyServicesRequest(services=[each.entry for each in part], validate_only=True)
    try:
        response = stub.ApplyServices(request, timeout=RPC_TIMEOUT_S)
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.INVALID_ARGUMENT:
            raise
        # An error names as many fields as fit into it: each entry is asked about by itself.
        return [], [detail for each in part for detail in _problems_of(stub, each)]
    places = {each.entry.name: each for each in part}
    return [places[warning.service].detail(warning.field, warning.description) for warning in response.warnings], []


def _problems_of(stub: CatalogServiceStub, entry: FileEntry) -> list[ErrorDetail]:
    request = service.ApplyServicesRequest(services=[entry.entry], validate_only=True)
    try:
        stub.ApplyServices(request, timeout=RPC_TIMEOUT_S)
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.INVALID_ARGUMENT:
            raise
        return [
            entry.detail(found.field.removeprefix("services[0]").removeprefix("."), found.description)
            for found in error_report_of(error).details
        ]
    return []


def _exit_if_wrong(
    entries: Sequence[FileEntry], refused: Sequence[ErrorDetail], source: str, output: OutputFormat
) -> None:
    unread = [each.detail(field, why) for each in entries for field, why in each.problems]
    details = [*unread, *refused]
    if not details:
        return
    labels = dict.fromkeys(each.label for each in entries if each.problems)
    labels |= dict.fromkeys(f'"{detail.rule}"' if detail.rule else detail.field for detail in refused)
    message = f"not allowed: {', '.join(labels)}"
    print_error(ErrorReport(code="INVALID_ARGUMENT", message=message, details=details), output, source=source)
    raise typer.Exit(ExitCode.USAGE if unread else ExitCode.REFUSED)


def _apply(
    stub: CatalogServiceStub, part: Sequence[FileEntry], before: Mapping[str, Fields], *, is_dry_run: bool
) -> list[FileChange]:
    """Apply entries in one call; return what became of each."""
    request = service.ApplyServicesRequest(
        services=[each.entry for each in part], validate_only=is_dry_run, request_id=new_request_id()
    )
    response = stub.ApplyServices(request, timeout=RPC_TIMEOUT_S)
    return [
        FileChange(
            kind=ChangeKind(service.AppliedService.Change.Name(result.change).lower()),
            name=result.name,
            differences=differences_of(before.get(result.name, {}), written_fields(json_of(each.entry))),
        )
        for each, result in zip(part, response.results, strict=True)
    ]


def _delete(stub: CatalogServiceStub, name: str, *, is_dry_run: bool) -> FileChange:
    if not is_dry_run:
        stub.DeleteService(service.DeleteServiceRequest(name=name), timeout=RPC_TIMEOUT_S)
    return FileChange(kind=ChangeKind.DELETED, name=name, differences={})


def _parts(entries: Sequence[FileEntry]) -> Iterator[list[FileEntry]]:
    """Yield the entries, as many at once as one call takes."""
    part: list[FileEntry] = []
    size = 0
    for each in entries:
        if part and (len(part) == _MAX_ENTRIES or size + each.entry.ByteSize() > _MAX_BYTES):
            yield part
            part, size = [], 0
        part.append(each)
        size += each.entry.ByteSize()
    if part:
        yield part
