"""People, schedules and policies as tables; an export has all of them as `oncall apply` takes them."""

from collections.abc import Iterator, Sequence
from typing import Any

from cli.client import list_rows
from cli.oncall.documents import KINDS, OnCallMessage, written_document
from cli.output import OutputFormat, json_of, print_data, print_table
from cli.routing.tree_file import span_text
from tocsin.oncall.v1 import on_call_service_pb2 as service
from tocsin.oncall.v1.escalation_policy_pb2 import EscalationPolicy, EscalationStep
from tocsin.oncall.v1.on_call_service_pb2_grpc import OnCallServiceStub
from tocsin.oncall.v1.schedule_pb2 import Person, Schedule, ScheduleLayer, WeeklyHours
from tocsin.rules.v1.alert_rule_pb2 import AlertRule

_SHORT_DAY = 3


def all_resources(stub: OnCallServiceStub, key: str) -> list[Any]:
    """Return all people, schedules or policies, as messages of their type."""
    match key:
        case "people":
            return list_rows(stub.ListPeople, service.ListPeopleRequest(), lambda page: page.people)
        case "schedules":
            return list_rows(stub.ListSchedules, service.ListSchedulesRequest(), lambda page: page.schedules)
        case _:
            request = service.ListEscalationPoliciesRequest()
            return list_rows(stub.ListEscalationPolicies, request, lambda page: page.policies)


def export_document(stub: OnCallServiceStub) -> dict[str, Any]:
    """Return all of them as one document; a kind of which there is none is left out."""
    found = {key: [written_document(each) for each in all_resources(stub, key)] for key in KINDS}
    return {key: documents for key, documents in found.items() if documents}


def print_resources(messages: Sequence[Any], key: str, output: OutputFormat) -> None:
    """Print people, schedules or policies."""
    if output.is_data:
        print_data([json_of(each) for each in messages], output)
        return
    columns, cut = _COLUMNS[key]
    rows = [row for message in messages for row in _rows(message)]
    print_table(columns, rows, cut=cut, wide=output is OutputFormat.WIDE)


_COLUMNS: dict[str, tuple[list[str], set[str]]] = {
    "people": (["Name", "Display name", "Receivers", "Time zone"], {"Display name", "Receivers"}),
    "schedules": (["Name", "Layer", "People", "Rotation", "From", "Hours"], {"People", "Hours"}),
    "policies": (["Name", "Step", "After", "Notifies", "Only", "Then"], {"Notifies", "Only"}),
}


def _rows(message: OnCallMessage) -> Iterator[list[str]]:
    match message:
        case Person():
            yield [message.name, message.display_name or "-", ", ".join(message.receivers), message.time_zone]
        case Schedule():
            for n, layer in enumerate(message.layers):
                yield ["" if n else message.name, *_layer_cells(layer, message.time_zone)]
        case EscalationPolicy():
            for n, step in enumerate(message.steps):
                is_last = n == len(message.steps) - 1
                name = "" if n else message.name
                yield [name, str(n + 1), *_step_cells(step), _after_step(message, step) if is_last else ""]


def _layer_cells(layer: ScheduleLayer, zone: str) -> list[str]:
    rotation = ScheduleLayer.Rotation.Name(layer.rotation)
    if layer.HasField("turn_length"):
        rotation = f"every {span_text(layer.turn_length)}"
    until = f" to {layer.end_time}" if layer.end_time else ""
    hours = _hours_text(layer.hours)
    return [layer.name, ", ".join(layer.people), rotation, f"{layer.start_time}{until} {zone}", hours or "always"]


def _step_cells(step: EscalationStep) -> list[str]:
    targets = [*step.receivers, *(f"on call: {name}" for name in step.schedules), *step.people]
    conditions = []
    if step.min_severity:
        conditions.append(f"{AlertRule.Severity.Name(step.min_severity)} or higher")
    if step.hours:
        conditions.append(f"{_hours_text(step.hours)} {step.time_zone}")
    return [span_text(step.delay), ", ".join(targets), "; ".join(conditions) or "-"]


def _after_step(policy: EscalationPolicy, step: EscalationStep) -> str:
    if step.until_acknowledged:
        return "again until acknowledged"
    if policy.repeat_count:
        return f"all again after {span_text(policy.repeat_delay)}, {policy.repeat_count} times"
    return "ends"


def _hours_text(hours: Sequence[WeeklyHours]) -> str:
    return ", ".join(_span_text(each) for each in hours)


def _span_text(span: WeeklyHours) -> str:
    days = [WeeklyHours.Weekday.Name(day)[:_SHORT_DAY].capitalize() for day in span.weekdays]
    return f"{' '.join(days) or 'daily'} {span.start}-{span.end}"
