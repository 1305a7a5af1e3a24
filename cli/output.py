"""Tables for people, JSON for programs: all that the commands print passes this module or its `stdout`."""

import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Annotated, Any

import typer
import yaml
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
STATE_STYLE = {"FIRING": "bold red", "OPEN": "bold red", "ACKNOWLEDGED": "yellow", "RESOLVED": "green"}

# Beginnings of ids are at least so long.
_MIN_ID = 8
# On a narrower terminal times are without the year, "2026-".
_WIDE_ENOUGH = 100
_AFTER_YEAR = 5

# A column that is cut keeps so many characters, and one by which people know a row so many; so many stand between two.
_MIN_WIDTH = 10
_MIN_NAME_WIDTH = 18
_GAP = 2
_NO_FOLDING = 1 << 30


class OutputFormat(StrEnum):
    """How results are printed."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"

    @property
    def is_data(self) -> bool:
        """Return whether it is for programs: errors and progress are then no text for people either."""
        return self in {OutputFormat.JSON, OutputFormat.YAML}


OutputOption = Annotated[
    OutputFormat,
    typer.Option(
        "--output",
        "-o",
        help="table; wide, with all columns and whole ids; json or yaml, for programs, errors too.",
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
    if output.is_data:
        details = [{name: text for name, text in asdict(detail).items() if text} for detail in report.details]
        error = {"code": report.code, "message": report.message, "details": details}
        typer.echo(_document({"error": error}, output), err=True)
        return
    # Further lines of a text are indented, so that none looks like a line of this program.
    print_to_stderr(f"{source}: {report.code}: {report.message}".replace("\n", "\n  "))
    for detail in report.details:
        rule = f" ({detail.rule})" if detail.rule else ""
        print_to_stderr(f"  {detail.field}{rule}: {detail.description}".replace("\n", "\n    "))


def print_warnings(warnings: Sequence[ErrorDetail], output: OutputFormat) -> None:
    """Print to standard error what is allowed and surely not meant."""
    if warnings and output.is_data:
        shown = [{name: text for name, text in asdict(warning).items() if text} for warning in warnings]
        typer.echo(_document({"warnings": shown}, output), err=True)
        return
    for warning in warnings:
        rule = f" ({warning.rule})" if warning.rule else ""
        print_to_stderr(f"warning: {warning.field}{rule}: {warning.description}".replace("\n", "\n  "))


def print_to_stderr(text: str) -> None:
    """Print a text for people to standard error."""
    _stderr.print(text, soft_wrap=True)


def confirm(question: str, *, default: bool = True) -> bool:
    """Ask a question on a terminal; the answer is no where there is none, `default` where nothing is typed."""
    return is_interactive() and typer.confirm(question, default=default, err=True)


def is_interactive() -> bool:
    """Return whether somebody can answer a question."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def print_data(value: Any, output: OutputFormat) -> None:
    """Print a document to standard output, in the format for programs that was asked for."""
    typer.echo(_document(value, output))


def print_data_item(value: Any, output: OutputFormat) -> None:
    """Print one of many documents that follow each other: a line of JSON, or a document of YAML."""
    typer.echo(f"---\n{_document(value, output)}" if output is OutputFormat.YAML else printable_json(value))


def _document(value: Any, output: OutputFormat) -> str:
    if output is OutputFormat.YAML:
        # All that is not ASCII is escaped, and no line is folded: no text becomes a line of its own.
        return yaml.dump(value, Dumper=_YamlDumper, sort_keys=False, width=_NO_FOLDING).rstrip("\n")
    return printable_json(value, indent=2)


class _YamlDumper(yaml.SafeDumper):
    """Writes a string of several lines in quotes, with escapes."""

    def represent_str(self, text: str) -> yaml.ScalarNode:
        """Return a string as YAML has it."""
        style = '"' if "\n" in text else None
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_YamlDumper.add_representer(str, _YamlDumper.represent_str)


def print_crlf_lines(lines: Iterable[str]) -> None:
    """Print lines that end as a format asks for, with a carriage return and a line feed."""
    for line in lines:
        typer.echo(f"{printable(line)}\r\n", nl=False)


def json_of(message: Message) -> Any:
    """Return a message as the REST interface shows it, but for integers of 64 bits, which are numbers."""
    document = json_format.MessageToDict(message, always_print_fields_with_no_presence=True)
    return _with_numbers(document, message.DESCRIPTOR)


def _with_numbers(document: dict[str, Any], descriptor: Any) -> dict[str, Any]:
    for field in descriptor.fields:
        value = document.get(field.json_name)
        if value is None:
            continue
        if field.cpp_type in {field.CPPTYPE_INT64, field.CPPTYPE_UINT64}:
            document[field.json_name] = [int(each) for each in value] if field.is_repeated else int(value)
        elif field.message_type is not None and field.message_type.GetOptions().map_entry:
            # In an order that stays: exports are kept and compared.
            document[field.json_name] = dict(sorted(value.items()))
        elif field.message_type is not None and field.message_type.file.package.startswith("tocsin."):
            for inner in value if isinstance(value, list) else [value]:
                _with_numbers(inner, field.message_type)
    return document


def print_message(message: Message, output: OutputFormat, print_for_people: Callable[[], None]) -> None:
    """Print a message for programs, or as `print_for_people` does."""
    if output.is_data:
        print_data(json_of(message), output)
    else:
        print_for_people()


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str | Text]],
    *,
    title: str | None = None,
    cut: Collection[str] = (),
    name: str = "",
    wide: bool = False,
) -> None:
    """Print a table; each cell is one line, in which a line break shows as an escape.

    When room is short, the columns named in `cut`, or else the widest one, are cut; then the last columns are left out
    and named below, and the column `name` is cut least. All others, above all ids, stay whole. A `wide` table is as
    wide as it needs to be.
    """
    cells = [[format_cell(cell) for cell in row] for row in rows]
    widths = [max(cell_len(str(row[index])) for row in [columns, *cells]) for index in range(len(columns))]
    may_cut = [column in cut if cut else width == max(widths) for column, width in zip(columns, widths, strict=True)]
    if wide:
        _print_wide([[Text(column, style="bold") for column in columns], *cells], widths)
        return
    least = [
        min(width, _MIN_NAME_WIDTH if column == name else _MIN_WIDTH) if is_cut else width
        for column, width, is_cut in zip(columns, widths, may_cut, strict=True)
    ]
    shown_widths = fit_columns(widths, least, stdout.width)
    table = _table(title)
    for column, width in zip(columns, shown_widths, strict=False):
        table.add_column(column, no_wrap=True, overflow="ellipsis", width=width)
    for row in cells:
        table.add_row(*row[: len(shown_widths)])
    stdout.print(table)
    if left_out := columns[len(shown_widths) :]:
        stdout.print(f"No room for: {', '.join(left_out)}. -o wide shows all.", style="dim")


def _print_wide(rows: Sequence[Sequence[Text]], widths: Sequence[int]) -> None:
    """Print rows as lines that no terminal's width bounds, as the library's tables are."""
    for row in rows:
        cells = [cell + " " * (width - cell.cell_len) for cell, width in zip(row, widths, strict=True)]
        line = Text(" " * _GAP).join(cells)
        line.rstrip()
        stdout.print(line, soft_wrap=True)


def print_whole_table(columns: Sequence[str], rows: Iterable[Sequence[str | Text]], *, title: str) -> None:
    """Print a table in which nothing is cut: what does not fit goes on in the next line of its column."""
    table = _table(title)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(format_cell, row))
    stdout.print(table)


def _table(title: str | None = None) -> Table:
    return Table(
        title=title,
        title_justify="left",
        header_style="bold",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        collapse_padding=True,
    )


def fit_columns(widths: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """Return the widths of the first columns that have room for their least; the rest is for those that need more."""
    fitted = list(least)
    count = len(widths)
    while count > 1 and _whole_width(fitted[:count]) > room:
        count -= 1
    spare = room - _whole_width(fitted[:count])
    for index in range(count):
        more = max(0, min(spare, widths[index] - fitted[index]))
        fitted[index] += more
        spare -= more
    return fitted[:count]


def _whole_width(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * (len(widths) - 1)


def print_fields(fields: Mapping[str, Any], *, notes: Mapping[str, str] | None = None) -> None:
    """Print names and values, one below the other, whole; a note stands beside its value."""
    table = _table()
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
            return ", ".join(map(_format_inner, value)) or "-"
        case dict():
            return ", ".join(f"{name}={_format_inner(inner)}" for name, inner in sorted(value.items())) or "-"
        case _:
            return str(value) or "-"


def _format_inner(value: Any) -> str:
    match value:
        case list():
            return f"[{', '.join(map(_format_inner, value))}]"
        case dict():
            return f"{{{', '.join(f'{name}={_format_inner(inner)}' for name, inner in value.items())}}}"
        case _:
            return format_value(value)


def format_styled(text: str, styles: Mapping[str, str]) -> Text:
    """Format a text in its style, if it has one."""
    return Text(printable(text), style=styles.get(text, ""))


def format_cell(text: str | Text) -> Text:
    """Format a text as one line without hidden characters."""
    return text if isinstance(text, Text) else Text(printable(text))


def format_timestamp(time: Timestamp) -> str:
    """Format a time to the second; a dash for none."""
    return f"{datetime_of(time):%Y-%m-%d %H:%M:%S}" if time.seconds else "-"


def format_short_timestamp(time: Timestamp) -> str:
    """Format a time to the second, without the year where the terminal is narrow; a dash for none."""
    return format_timestamp(time) if stdout.width >= _WIDE_ENOUGH else format_timestamp(time)[_AFTER_YEAR:] or "-"


def format_timestamp_ms(time: Timestamp) -> str:
    """Format a time to the millisecond; a dash for none."""
    return datetime_of(time).isoformat(" ", "milliseconds").partition("+")[0] if time.seconds else "-"


def short_ids(ids: Iterable[str]) -> dict[str, str]:
    """Return the beginning of each id by which it differs from the others, all of one length."""
    distinct = frozenset(ids)
    length = _MIN_ID
    while len({name[:length] for name in distinct}) < len(distinct):
        length += 1
    return {name: name[:length] for name in distinct}
