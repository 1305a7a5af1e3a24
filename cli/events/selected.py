"""The events of records, or those of them that a filter selects."""

from collections.abc import Callable, Iterable, Iterator

from services.chassis.kafka import Record
from services.rule_language.checking import Expression
from services.rule_language.environment import StepLimitError
from tocsin.logs.v1.log_event_pb2 import LogEvent


def selected_events(
    records: Iterable[Record], expression: Expression | None, notice: Callable[[str], None]
) -> Iterator[LogEvent]:
    """Yield the events for which the filter is true, as a rule would select them; without a filter, all.

    `notice` takes what is to be said about records that cannot be read.
    """
    # Slow to import, and not needed by the other commands.
    from cli.events.decoding import UnreadableEventsError, decode_events  # noqa: PLC0415

    for record in records:
        try:
            events = decode_events(record)
        except UnreadableEventsError as error:
            notice(f"{record.topic}, partition {record.partition}, offset {record.offset} cannot be read: {error}")
            continue
        yield from (event for event in events if expression is None or _is_selected(expression, event))


def _is_selected(expression: Expression, event: LogEvent) -> bool:
    try:
        return expression.evaluate(_cel_values(event)) is True
    except StepLimitError:
        return False


def _cel_values(event: LogEvent) -> dict[str, object]:
    """Return an event as CEL takes it: absent fields left out."""
    values: dict[str, object] = {
        "service": event.service,
        "level": event.level,
        "message": event.message,
        "host": event.host,
        "trace_id": event.trace_id,
        "attributes": dict(event.attributes),
    }
    if event.HasField("status_code"):
        values["status_code"] = event.status_code
    if event.HasField("response_time"):
        values["response_time"] = event.response_time
    return values
