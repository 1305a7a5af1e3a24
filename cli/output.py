"""Tables for people, JSON for programs: all that the commands print goes through here or through `console`."""

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

# Where nobody looks at a terminal, in files and CI, tables have room.
console = Terminal(width=None if sys.stdout.isatty() else 160)
_errors = Terminal(stderr=True)

SEVERITY_STYLE = {"CRITICAL": "bold red", "HIGH": "red", "MEDIUM": "yellow", "LOW": "cyan"}
STATE_STYLE = {"FIRING": "bold red", "ACKNOWLEDGED": "yellow", "RESOLVED": "green"}

# What a text that may be cut keeps, and what stands between two columns.
_LEAST = 10
_GAP = 3


class Form(StrEnum):
    """How results are printed."""

    TABLE = "table"
    JSON = "json"


Output = Annotated[
    Form,
    typer.Option(
        "--output",
        "-o",
        help="A table for people or JSON for programs: one object for one thing, an array for several. "
        'What goes wrong is told on standard error, in JSON as {"error": {"code", "message", "details"}}.',
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Detail:
    """One field that is wrong, and in which rule when it is one of several."""

    field: str
    description: str
    rule: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What went wrong: the name of a gRPC status code, a sentence, and the fields."""

    code: str
    message: str
    details: Sequence[Detail] = ()


def tell(problem: Problem, form: Form, *, where: str) -> None:
    """Say on standard error what went wrong, in the form that was asked for."""
    if form is Form.JSON:
        details = [{name: text for name, text in asdict(one).items() if text} for one in problem.details]
        error = {"code": problem.code, "message": problem.message, "details": details}
        typer.echo(printable_json({"error": error}, indent=2), err=True)
        return
    # Further lines of a text are indented, so that none looks like a line of ours.
    complain(f"{where}: {problem.code}: {problem.message}".replace("\n", "\n  "))
    for one in problem.details:
        complain(f"  {one.field}{f' ({one.rule})' if one.rule else ''}: {one.description}".replace("\n", "\n    "))


def complain(text: str) -> None:
    """A line on standard error."""
    _errors.print(text, soft_wrap=True)


def ask(question: str) -> bool:
    """Whether who sits at a terminal says yes; nobody does where there is none."""
    return is_terminal() and typer.confirm(question, default=True, err=True)


def is_terminal() -> bool:
    """Whether somebody can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def print_json(value: Any, *, indent: int | None = 2) -> None:
    """A JSON document on standard output, on one line without an indent."""
    typer.echo(printable_json(value, indent=indent))


def as_json(message: Message) -> Any:
    """A message as the REST interface shows it."""
    return json_format.MessageToDict(message, always_print_fields_with_no_presence=True)


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str | Text]], *, title: str | None = None, cut: Collection[str] = ()
) -> None:
    """A table. A cell is one line: a break in a text of it shows as an escape, and can begin no row of its own.

    When room is short, the columns named in `cut`, or the widest one, are cut; then the last columns are left out, and
    that is said. All others, ids above all, stay whole.
    """
    cells = [[cell(one) for one in row] for row in rows]
    widths = [max(cell_len(str(row[place])) for row in [columns, *cells]) for place in range(len(columns))]
    may_cut = [name in cut if cut else width == max(widths) for name, width in zip(columns, widths, strict=True)]
    fitting = fitted(widths, may_cut, console.width)
    table = Table(title=title, title_justify="left", header_style="bold", box=box.SIMPLE_HEAD)
    for column, width in zip(columns, fitting, strict=False):
        table.add_column(column, no_wrap=True, overflow="ellipsis", width=width)
    for row in cells:
        table.add_row(*row[: len(fitting)])
    console.print(table)
    if left_out := columns[len(fitting) :]:
        console.print(f"No room for: {', '.join(left_out)}. A wider terminal shows all.", style="dim")


def fitted(widths: Sequence[int], may_cut: Sequence[bool], room: int) -> list[int]:
    """The widths of the columns that there is room for: the first ones, with texts cut to what is left for them."""
    least = [min(width, _LEAST) if cut else width for width, cut in zip(widths, may_cut, strict=True)]
    count = len(widths)
    while count > 1 and sum(least[:count]) + _GAP * count + 1 > room:
        count -= 1
    spare = room - sum(least[:count]) - _GAP * count - 1
    for place in range(count):
        more = max(0, min(spare, widths[place] - least[place]))
        least[place] += more
        spare -= more
    return least[:count]


def number(value: float) -> str:
    """A number as people write it: without an exponent as long as that is exact."""
    return f"{value:.15g}"


def value(thing: Any) -> str:
    """A value of JSON as people read it; a dash for nothing."""
    match thing:
        case bool():
            return "yes" if thing else "no"
        case float():
            return number(thing)
        case list():
            return ", ".join(map(value, thing)) or "-"
        case dict():
            return ", ".join(f"{name}={value(inner)}" for name, inner in sorted(thing.items())) or "-"
        case _:
            return str(thing) or "-"


def print_fields(fields: Mapping[str, Any]) -> None:
    """Names and values, one below the other, whole."""
    table = Table(header_style="bold", box=box.SIMPLE_HEAD)
    table.add_column("Field", no_wrap=True)
    table.add_column("Value", overflow="fold")
    for name, thing in fields.items():
        table.add_row(cell(name), cell(value(thing)))
    console.print(table)


def styled(word: str, styles: Mapping[str, str]) -> Text:
    """A word in the colour that it has."""
    return Text(printable(word), style=styles.get(word, ""))


def cell(text: str | Text) -> Text:
    """A text as one line that shows all of it."""
    return text if isinstance(text, Text) else Text(printable(text))


def moment(time: Timestamp) -> str:
    """A time to the second, a dash for none."""
    return f"{datetime_of(time):%Y-%m-%d %H:%M:%S}" if time.seconds else "-"


def show(message: Message, form: Form, table: Callable[[], None]) -> None:
    """A result in the form that was asked for."""
    if form is Form.JSON:
        print_json(as_json(message))
    else:
        table()
