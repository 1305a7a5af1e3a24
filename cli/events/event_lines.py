"""An event as one line for people, or as a document for programs."""

from rich.text import Text

from cli.output import OutputFormat, format_cell, format_number, format_styled, json_of, print_data_item, stdout
from services.contract.timestamps import datetime_of
from tocsin.logs.v1.log_event_pb2 import LogEvent

_LEVEL_STYLE = {"FATAL": "bold red", "ERROR": "red", "WARN": "yellow", "DEBUG": "dim", "TRACE": "dim"}
_LEVEL_WIDTH = 5
# Of six digits of a second three are shown.
_MICROSECONDS_CUT = 3


def print_event(event: LogEvent, output: OutputFormat) -> None:
    """Print an event to standard output."""
    if output.is_data:
        print_data_item(json_of(event), output)
    else:
        stdout.print(format_event(event, wide=output is OutputFormat.WIDE), soft_wrap=True)


def format_event(event: LogEvent, *, wide: bool) -> Text:
    """Format an event as one line without hidden characters; a wide line has all fields."""
    time = f"{datetime_of(event.event_time):%Y-%m-%d %H:%M:%S.%f}"[:-_MICROSECONDS_CUT]
    level = _level_name(event)
    parts = [
        Text(time, style="dim"),
        format_styled(level, _LEVEL_STYLE),
        *map(format_cell, (event.service, event.message)),
        *(_further_fields(event) if wide else ()),
    ]
    parts[1].pad_right(max(0, _LEVEL_WIDTH - len(level)))
    return Text(" ").join(parts)


def _level_name(event: LogEvent) -> str:
    known = event.level in LogEvent.Level.values()
    return LogEvent.Level.Name(event.level) if known else str(int(event.level))


def _further_fields(event: LogEvent) -> list[Text]:
    fields = {"host": event.host, "trace_id": event.trace_id, "record_id": event.record_id}
    if event.HasField("status_code"):
        fields["status_code"] = str(event.status_code)
    if event.HasField("response_time"):
        fields["response_time"] = format_number(event.response_time)
    fields |= {f"attributes.{key}": value for key, value in sorted(event.attributes.items())}
    shown = [format_cell(f"{name}={value}") for name, value in fields.items() if value]
    for part in shown:
        part.stylize("dim")
    return shown
