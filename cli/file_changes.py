"""What applying files changes: kinds of changes, fields that differ, how both are printed, consent to deletions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.text import Text

from cli.client import ExitCode
from cli.output import (
    ErrorDetail,
    ErrorReport,
    OutputFormat,
    confirm,
    format_cell,
    format_styled,
    format_value,
    is_interactive,
    print_data,
    print_error,
    print_table,
    print_to_stderr,
    stdout,
)

Differences = Mapping[str, tuple[Any, Any]]


class ChangeKind(StrEnum):
    """What becomes of a thing."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    DELETED = "deleted"


_STYLE = {"created": "green", "updated": "yellow", "deleted": "red", "unchanged": "dim"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FileChange:
    """What becomes of one thing, and the fields that differ, with both values; an empty id where there is none."""

    kind: ChangeKind
    name: str
    differences: Differences
    item_id: str = ""


DiffOption = Annotated[bool, typer.Option("--diff", help="Show each field that changes, before and after.")]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Check like the real call and show the result, but store nothing.")
]
SureOption = Annotated[
    bool, typer.Option("--yes", "-y", help="Delete with --prune without a question; needed without a terminal.")
]


def ask_before_deleting(names: Sequence[str], kind: str, output: OutputFormat) -> None:
    """Return when what is in no file may be deleted; end the command when it may not. Nothing may be stored before.

    `kind` is the plural of what the names are of. Where nobody can be asked, and for programs, the answer is no.
    """
    if not names:
        return
    if output.is_data or not is_interactive():
        report = ErrorReport(
            code="FAILED_PRECONDITION",
            message=f"{kind} would be deleted, and nobody is asked here: --yes deletes them, --dry-run shows what "
            "would be done. Nothing was stored.",
            details=[ErrorDetail(field="name", description="is in none of the files", rule=name) for name in names],
        )
        print_error(report, output, source="--prune")
        raise typer.Exit(ExitCode.USAGE)
    print_to_stderr(f"These {kind} are in none of the files:")
    for name in names:
        print_to_stderr(f"  {name}".replace("\n", "\n    "))
    if not confirm("Delete them?", default=False):
        print_to_stderr("nothing was stored")
        raise typer.Exit(ExitCode.REFUSED)


def differences_of(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the fields that differ, with both values; None where a field is not set."""
    return {
        name: (before.get(name), after.get(name))
        for name in dict.fromkeys([*before, *after])
        if before.get(name) != after.get(name)
    }


def print_changes(
    changes: Sequence[FileChange], output: OutputFormat, *, show_diff: bool, is_dry_run: bool, has_ids: bool
) -> None:
    """Print what became of each thing, and its fields before and after when the differences are asked for."""
    if output.is_data:
        print_data([_json_of(change, has_ids=has_ids) for change in changes], output)
        return
    columns = ["Change", "Name", *(["ID"] if has_ids else []), "Fields"]
    print_table(columns, [_row(change, has_ids=has_ids) for change in changes], cut={"Name", "Fields"})
    for change in changes if show_diff else ():
        if change.kind in {ChangeKind.CREATED, ChangeKind.UPDATED}:
            _print_diff(change)
    if is_dry_run:
        stdout.print("Dry run: nothing was stored.")


def _row(change: FileChange, *, has_ids: bool) -> list[str | Text]:
    fields = ", ".join(change.differences) if change.kind is ChangeKind.UPDATED else ""
    ids = [change.item_id or "-"] if has_ids else []
    return [format_styled(change.kind.value, _STYLE), change.name, *ids, fields]


def _print_diff(change: FileChange) -> None:
    stdout.print(format_cell(f"{change.name}:"))
    for name, (before, after) in change.differences.items():
        for sign, value, style in (("-", before, "red"), ("+", after, "green")):
            if value not in (None, "", {}, []):
                line = format_cell(f"  {sign} {name}: {format_value(value)}")
                line.stylize(style)
                stdout.print(line, soft_wrap=True)


def _json_of(change: FileChange, *, has_ids: bool) -> dict[str, Any]:
    differences = [
        {"field": name, "before": before, "after": after} for name, (before, after) in change.differences.items()
    ]
    return {
        "change": change.kind.value,
        "name": change.name,
        **({"id": change.item_id} if has_ids else {}),
        "differences": differences if change.kind is ChangeKind.UPDATED else [],
    }
