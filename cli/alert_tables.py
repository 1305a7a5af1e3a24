"""Alerts for people: as rows of a table, as lines of a stream, and whole."""

from collections.abc import Iterable, Iterator, Sequence

from google.protobuf.timestamp_pb2 import Timestamp
from rich.text import Text

from cli.label_matchers import format_labels
from cli.output import (
    SEVERITY_STYLE,
    STATE_STYLE,
    OutputFormat,
    format_cell,
    format_number,
    format_short_timestamp,
    format_styled,
    format_timestamp,
    format_timestamp_ms,
    format_value,
    json_of,
    print_data,
    print_data_item,
    print_fields,
    print_table,
    print_whole_table,
    short_ids,
    stdout,
)
from tocsin.alerts.v1.alert_pb2 import Alert, AlertHistoryEntry, RelatedChange, SampleEvent, ServiceInfo, WindowResult
from tocsin.alerts.v1.alert_service_pb2 import GetAlertResponse
from tocsin.changes.v1.service_change_pb2 import ServiceChange
from tocsin.logs.v1.log_event_pb2 import LogEvent
from tocsin.rules.v1.alert_rule_pb2 import AlertRule

_COLUMNS = ["ID", "State", "Severity", "Rule", "Resource", "Fired", "Count", "Repeats"]
_MORE_COLUMNS = ["Labels", "Acknowledged by", "Resolved by"]

_OUTCOMES = {
    AlertHistoryEntry.NOTIFIED: "delivered",
    AlertHistoryEntry.NOTIFICATION_FAILED: "failed",
    AlertHistoryEntry.NOTIFICATION_HELD: "held",
}


def shown_resource(alert: Alert) -> str:
    """Return the resource for people; that of events without the field that the rule groups by is empty."""
    return alert.resource or "(none)"


def print_alerts(alerts: list[Alert], output: OutputFormat) -> None:
    """Print alerts, one a row."""
    if output.is_data:
        print_data([json_of(alert) for alert in alerts], output)
    elif output is OutputFormat.WIDE:
        print_table(_COLUMNS + _MORE_COLUMNS, [_wide_row(alert) for alert in alerts], wide=True)
    else:
        names = short_ids(alert.id for alert in alerts)
        rows = [_row(alert, names[alert.id], format_short_timestamp(alert.fire_time)) for alert in alerts]
        print_table(_COLUMNS, rows, cut={"Rule", "Resource"}, name="Rule")


def print_change(alert: Alert, output: OutputFormat) -> None:
    """Print an alert as one line, or as one document for programs."""
    if output.is_data:
        print_data_item(json_of(alert), output)
        return
    name, state, severity, rule, resource, _, count, *_ = _row(alert, alert.id, "")
    parts = [format_timestamp(alert.update_time), state, severity, rule, resource, f"count {count}", name]
    # Else it looks as if the condition had ended.
    parts += [f"superseded by {alert.superseded_by}"] if alert.superseded_by else []
    # One line on a terminal of any width, and in a file.
    stdout.print(Text("  ").join(format_cell(part) for part in parts), soft_wrap=True)


def print_unchanged(alert: Alert, comment: str, output: OutputFormat) -> None:
    """Print who acknowledged or resolved an alert before; programs read it in the alert."""
    if output.is_data:
        return
    is_resolved = alert.state == Alert.RESOLVED
    verb, actor = ("resolved", alert.resolved_by) if is_resolved else ("acknowledged", alert.acknowledged_by)
    time = alert.resolve_time if is_resolved else alert.acknowledge_time
    added = "; your comment was added to its history" if comment else ""
    stdout.print(f"Already {verb} by {actor or 'the system'} at {format_timestamp(time)}{added}.", soft_wrap=True)


def print_whole_alert(response: GetAlertResponse) -> None:
    """Print all of an alert, one field below the other: who was notified, the evidence and the history as well."""
    print_fields(dict(_fields(response.alert)))
    print_whole_table(
        ["Time", "About", "Channel", "To", "Outcome"],
        [_notified_row(entry) for entry in response.history if entry.kind in _OUTCOMES],
        title="Notified",
    )
    print_related_changes(response.alert.recent_changes, title="Changes before it fired")
    stdout.print("Evidence")
    for sample in response.alert.samples:
        print_fields(dict(_sample_fields(sample)))
    print_whole_table(
        ["Time", "What", "Who", "Comment", "Trace"],
        [_history_row(entry) for entry in response.history],
        title="History",
    )


def print_related_changes(changes: Sequence[RelatedChange], *, title: str) -> None:
    """Print changes of services as a table; nothing where there are none."""
    if changes:
        print_whole_table(
            ["Time", "Service", "Away", "Kind", "Version", "By", "Link"],
            [_change_row(related) for related in changes],
            title=title,
        )


def _row(alert: Alert, name: str, fired: str) -> list[str | Text]:
    return [
        name,
        _state(alert),
        format_styled(AlertRule.Severity.Name(alert.severity), SEVERITY_STYLE),
        alert.rule_name,
        shown_resource(alert),
        fired,
        str(alert.window.count),
        str(alert.repeat_count),
    ]


def _state(alert: Alert) -> Text:
    state = format_styled(Alert.State.Name(alert.state), STATE_STYLE)
    return state.append(", silenced") if alert.silenced_by else state


def _wide_row(alert: Alert) -> list[str | Text]:
    labels = format_value(dict(alert.labels))
    row = _row(alert, alert.id, format_timestamp_ms(alert.fire_time))
    return [*row, labels, alert.acknowledged_by or "-", alert.resolved_by or "-"]


def _fields(alert: Alert) -> Iterator[tuple[str, str]]:
    """Yield the names and values of an alert; what it does not have is left out."""
    yield "ID", alert.id
    yield "State", Alert.State.Name(alert.state)
    yield "Severity", AlertRule.Severity.Name(alert.severity)
    yield "Rule", f"{alert.rule_name} ({alert.rule_id})"
    yield from _present({"Description": alert.description})
    yield "Resource", alert.resource
    yield from _present({"Group": dict(alert.group), "Labels": dict(alert.labels)})
    yield from _present({"Matched by": format_labels(alert.match_labels)})
    yield from _service_fields(alert.service_info)
    yield "Fired", format_timestamp_ms(alert.fire_time)
    yield from _action("Acknowledged", alert.acknowledge_time, alert.acknowledged_by)
    yield from _action("Resolved", alert.resolve_time, alert.resolved_by)
    yield from _present({"Superseded by": alert.superseded_by})
    yield from _present({"Silenced by": ", ".join(alert.silenced_by)})
    yield "Repeats", str(alert.repeat_count)
    yield from _window_fields(alert.window)
    yield "Fingerprint", alert.fingerprint
    yield "Changed", format_timestamp_ms(alert.update_time)


def _service_fields(info: ServiceInfo) -> Iterator[tuple[str, str]]:
    """Yield what the catalog has of the alert's service."""
    yield from _present({"Owner": info.owner, "Tier": info.tier, "Service": info.description})
    yield from ((f"Link {name}", address) for name, address in sorted(info.links.items()))


def _window_fields(window: WindowResult) -> Iterator[tuple[str, str]]:
    yield "Condition", f"{window.condition} (threshold {format_number(window.threshold)})"
    yield "Window", f"{format_timestamp(window.start_time)} to {format_timestamp(window.end_time)}"
    yield "Count", f"{window.count} of {window.total}"
    if window.HasField("avg"):
        numbers = {"sum": window.sum, "avg": window.avg, "min": window.min, "max": window.max}
        yield "Value field", ", ".join(f"{name} {format_number(number)}" for name, number in numbers.items())
    yield "Last event", format_timestamp_ms(window.last_event_time)


def _sample_fields(sample: SampleEvent) -> Iterator[tuple[str, str]]:
    yield "Time", format_timestamp_ms(sample.event_time)
    yield "Level", LogEvent.Level.Name(sample.level)
    yield "Service", sample.service
    yield "Message", sample.message
    if sample.HasField("status_code"):
        yield "Status code", str(sample.status_code)
    if sample.HasField("response_time"):
        yield "Response time", f"{format_number(sample.response_time)} ms"
    yield from _present({"Host": sample.host})
    yield "Trace", sample.trace_id or "no trace id"
    for name, value in sorted(sample.attributes.items()):
        yield f"  {name}", value


def _notified_row(entry: AlertHistoryEntry) -> list[str | Text]:
    about = Alert.State.Name(entry.notified_state) if entry.notified_state else "-"
    outcome = _OUTCOMES[entry.kind]
    return [format_timestamp_ms(entry.create_time), about, entry.channel, entry.recipient or "-", outcome]


def _change_row(related: RelatedChange) -> list[str | Text]:
    change = related.change
    kind = ServiceChange.Kind.Name(change.kind)
    away = str(related.distance)
    return [format_timestamp_ms(change.time), change.service, away, kind, change.version, change.actor, change.link]


def _history_row(entry: AlertHistoryEntry) -> list[str | Text]:
    who = entry.actor or entry.channel
    kind = AlertHistoryEntry.Kind.Name(entry.kind)
    return [format_timestamp_ms(entry.create_time), kind, who, entry.comment, entry.trace_id]


def _action(name: str, time: Timestamp, actor: str) -> Iterable[tuple[str, str]]:
    if time.seconds:
        yield name, format_timestamp_ms(time) + (f" by {actor}" if actor else "")


def _present(fields: dict[str, str | dict[str, str]]) -> Iterable[tuple[str, str]]:
    return ((name, format_value(value)) for name, value in fields.items() if value)
