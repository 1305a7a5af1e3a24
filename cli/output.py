"""Tables for people, JSON for programs: all that the commands print passes this module or its `stdout`."""

import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Annotated, Any

import typer
from google.protobuf import json_format
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from rich import box
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from services.chassis.printable import printable, printable_json
from services.contract.timestamps import datetime_of
from stack.terminal import Terminal

# Files and CI logs have room for wide tables.
stdout = Terminal(width=None if sys.stdout.isatty() else 160)
_stderr = Terminal(stderr=True)

SEVERITY_STYLE = {"CRITICAL": "bold red", "HIGH": "red", "MEDIUM": "yellow", "LOW": "cyan"}
STATE_STYLE = {"FIRING": "bold red", "ACKNOWLEDGED": "yellow", "RESOLVED": "green"}

# A column that is cut keeps so many characters; so many stand between two columns.
_MIN_WIDTH = 10
_GAP = 3


class OutputFormat(StrEnum):
    """How results are printed."""

    TABLE = "table"
    JSON = "json"


OutputOption = Annotated[
    OutputFormat,
    typer.Option(
        "--output",
        "-o",
        help="A table for people or JSON for programs: one object for one thing, an array for several. "
        'Errors go to standard error, in JSON as {"error": {"code", "message", "details"}}.',
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorDetail:
    """A field that is wrong, and the name of its rule when there are several."""

    field: str
    description: str
    rule: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorReport:
    """Why a command failed: the name of a gRPC status code, a sentence, and the fields that are wrong."""

    code: str
    message: str
    details: Sequence[ErrorDetail] = ()


def print_error(report: ErrorReport, output: OutputFormat, *, source: str) -> None:
    """Print to standard error why a command failed; `source` is the server or file that the error is from."""
    if output is OutputFormat.JSON:
        details = [{name: text for name, text in asdict(detail).items() if text} for detail in report.details]
        error = {"code": report.code, "message": report.message, "details": details}
        typer.echo(printable_json({"error": error}, indent=2), err=True)
        return
    # Further lines of a text are indented, so that none looks like a line of this program.
    print_to_stderr(f"{source}: {report.code}: {report.message}".replace("\n", "\n  "))
    for detail in report.details:
        rule = f" ({detail.rule})" if detail.rule else ""
        print_to_stderr(f"  {detail.field}{rule}: {detail.description}".replace("\n", "\n    "))


def print_warnings(warnings: Sequence[ErrorDetail], output: OutputFormat) -> None:
    """Print to standard error what is allowed and surely not meant."""
    if warnings and output is OutputFormat.JSON:
        shown = [{name: text for name, text in asdict(warning).items() if text} for warning in warnings]
        typer.echo(printable_json({"warnings": shown}, indent=2), err=True)
        return
    for warning in warnings:
        rule = f" ({warning.rule})" if warning.rule else ""
        print_to_stderr(f"warning: {warning.field}{rule}: {warning.description}".replace("\n", "\n  "))


def print_to_stderr(text: str) -> None:
    """Print a text for people to standard error."""
    _stderr.print(text, soft_wrap=True)


def confirm(question: str) -> bool:
    """Ask a question on a terminal; the answer is no where there is none."""
    return is_interactive() and typer.confirm(question, default=True, err=True)


def is_interactive() -> bool:
    """Return whether somebody can answer a question."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def print_json(value: Any, *, indent: int | None = 2) -> None:
    """Print a JSON document to standard output, on one line without an indent."""
    typer.echo(printable_json(value, indent=indent))


def json_of(message: Message) -> Any:
    """Return a message as the REST interface shows it."""
    return json_format.MessageToDict(message, always_print_fields_with_no_presence=True)


def print_message(message: Message, output: OutputFormat, print_for_people: Callable[[], None]) -> None:
    """Print a message as JSON, or as `print_for_people` does."""
    if output is OutputFormat.JSON:
        print_json(json_of(message))
    else:
        print_for_people()


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str | Text]], *, title: str | None = None, cut: Collection[str] = ()
) -> None:
    """Print a table; each cell is one line, in which a line break shows as an escape.

    When room is short, the columns named in `cut`, or else the widest one, are cut; then the last columns are left out
    and named below. All others, above all ids, stay whole.
    """
    cells = [[format_cell(cell) for cell in row] for row in rows]
    widths = [max(cell_len(str(row[index])) for row in [columns, *cells]) for index in range(len(columns))]
    may_cut = [name in cut if cut else width == max(widths) for name, width in zip(columns, widths, strict=True)]
    shown_widths = fit_columns(widths, may_cut, stdout.width)
    table = Table(title=title, title_justify="left", header_style="bold", box=box.SIMPLE_HEAD)
    for column, width in zip(columns, shown_widths, strict=False):
        table.add_column(column, no_wrap=True, overflow="ellipsis", width=width)
    for row in cells:
        table.add_row(*row[: len(shown_widths)])
    stdout.print(table)
    if left_out := columns[len(shown_widths) :]:
        stdout.print(f"No room for: {', '.join(left_out)}. A wider terminal shows all.", style="dim")


def fit_columns(widths: Sequence[int], may_cut: Sequence[bool], room: int) -> list[int]:
    """Return the widths of the first columns that have room; those that may be cut share the rest."""
    fitted = [min(width, _MIN_WIDTH) if cut else width for width, cut in zip(widths, may_cut, strict=True)]
    count = len(widths)
    while count > 1 and sum(fitted[:count]) + _GAP * count + 1 > room:
        count -= 1
    spare = room - sum(fitted[:count]) - _GAP * count - 1
    for index in range(count):
        more = max(0, min(spare, widths[index] - fitted[index]))
        fitted[index] += more
        spare -= more
    return fitted[:count]


def print_fields(fields: Mapping[str, Any], *, notes: Mapping[str, str] | None = None) -> None:
    """Print names and values, one below the other, whole; a note stands beside its value."""
    table = Table(header_style="bold", box=box.SIMPLE_HEAD)
    table.add_column("Field", no_wrap=True)
    table.add_column("Value", overflow="fold")
    if notes is not None:
        table.add_column("Note", style="dim")
    for name, value in fields.items():
        note = [] if notes is None else [format_cell(notes.get(name, ""))]
        table.add_row(format_cell(name), format_cell(format_value(value)), *note)
    stdout.print(table)


def format_number(value: float) -> str:
    """Format a number without an exponent, as long as that is exact."""
    return f"{value:.15g}"


def format_value(value: Any) -> str:
    """Format a value of JSON for people; a dash for nothing."""
    match value:
        case bool():
            return "yes" if value else "no"
        case float():
            return format_number(value)
        case list():
            return ", ".join(map(format_value, value)) or "-"
        case dict():
            return ", ".join(f"{name}={format_value(inner)}" for name, inner in sorted(value.items())) or "-"
        case _:
            return str(value) or "-"


def format_styled(text: str, styles: Mapping[str, str]) -> Text:
    """Format a text in its style, if it has one."""
    return Text(printable(text), style=styles.get(text, ""))


def format_cell(text: str | Text) -> Text:
    """Format a text as one line without hidden characters."""
    return text if isinstance(text, Text) else Text(printable(text))


def format_timestamp(time: Timestamp) -> str:
    """Format a time to the second; a dash for none."""
    return f"{datetime_of(time):%Y-%m-%d %H:%M:%S}" if time.seconds else "-"
