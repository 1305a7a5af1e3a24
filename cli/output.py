"""Tables for people, JSON for programs."""

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer
from google.protobuf import json_format
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape, render
from rich.table import Table

# Where nobody looks at a terminal, in files and CI, tables have room.
console = Console(width=None if sys.stdout.isatty() else 160)
_errors = Console(stderr=True)

SEVERITY_STYLE = {"CRITICAL": "bold red", "HIGH": "red", "MEDIUM": "yellow", "LOW": "cyan"}
STATE_STYLE = {"FIRING": "bold red", "ACKNOWLEDGED": "yellow", "RESOLVED": "green"}


class Form(StrEnum):
    """How results are printed."""

    TABLE = "table"
    JSON = "json"


Output = Annotated[Form, typer.Option("--output", "-o", help="A table for people or JSON for programs.")]


def complain(text: str) -> None:
    """A line on standard error."""
    _errors.print(text, markup=False, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """A JSON document on standard output."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def as_json(message: Message) -> Any:
    """A message as the REST interface shows it."""
    return json_format.MessageToDict(message, always_print_fields_with_no_presence=True)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str | None = None) -> None:
    """A table; cells may hold markup, so texts that come from outside go through `plain` first."""
    table = Table(title=title, title_justify="left", header_style="bold", box=box.SIMPLE_HEAD)
    cells = [list(row) for row in rows]
    widths = [
        max(cell_len(render(row[place]).plain) for row in [list(columns), *cells]) for place in range(len(columns))
    ]
    for column, width in zip(columns, widths, strict=True):
        # When room is short, the widest column gives way: ids and states stay whole.
        table.add_column(column, no_wrap=True, overflow="ellipsis", min_width=None if width == max(widths) else width)
    for row in cells:
        table.add_row(*row)
    console.print(table)


def plain(text: object) -> str:
    """A text as a cell that shows it as it is."""
    return escape(str(text))


def styled(word: str, styles: dict[str, str]) -> str:
    """A word in the colour that it has."""
    style = styles.get(word)
    return f"[{style}]{word}[/]" if style else word


def moment(time: Timestamp) -> str:
    """A time to the second, a dash for none."""
    return f"{time.ToDatetime():%Y-%m-%d %H:%M:%S}" if time.seconds else "-"


def show(message: Message, form: Form, table: Callable[[], None]) -> None:
    """A result in the form that was asked for."""
    if form is Form.JSON:
        print_json(as_json(message))
    else:
        table()
