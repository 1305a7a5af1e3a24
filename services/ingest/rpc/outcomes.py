"""What the rpcs say of many events: which were refused, and what was adjusted."""

from collections.abc import Sequence
from itertools import islice
from typing import Any

import pyarrow as pa

from services.chassis.failures import InvalidRequest, Violation
from services.domain.event_fields import MAX_RECORD_ID
from services.ingest.core.adjustments import AdjustmentSummary
from services.ingest.core.columns import Columns
from services.ingest.core.event_checker import CheckResult, FailedCheck
from services.ingest.core.field_checks import EventField
from services.ingest.core.refusals import FoundValues, reason_of
from tocsin.logs.v1.log_ingest_service_pb2 import AdjustedEvents, AdjustedValue, RefusedEvent

# gRPC allows 8 KiB for all of a failure's details together.
_MAX_VIOLATIONS = 25


def adjusted_events(summary: AdjustmentSummary) -> AdjustedEvents:
    """Return the summary as the response carries it."""
    values = [
        AdjustedValue(
            field=adjustment.field.value,
            action=AdjustedValue.Action.Value(adjustment.action.name),
            count=count.events,
            indexes=count.indexes,
        )
        for adjustment, count in summary.counts.items()
    ]
    return AdjustedEvents(event_count=summary.event_count, values=values)


def refused_events(refused: Sequence[FailedCheck], columns: Columns, found_values: FoundValues) -> list[RefusedEvent]:
    """Return the refused events as the response lists them."""
    record_ids: list[Any] = columns.column("record_id").take(pa.array([each.index for each in refused])).to_pylist()
    return [
        RefusedEvent(
            index=each.index,
            record_id=record_id[:MAX_RECORD_ID],
            field=each.field.value,
            reason=reason_of(each, columns, found_values),
        )
        for each, record_id in zip(refused, record_ids, strict=True)
    ]


def all_refused(result: CheckResult, columns: Columns, found_values: FoundValues) -> InvalidRequest:
    """Return the failure of a request without an allowed event."""
    violations = [
        Violation(_path(failed), reason_of(failed, columns, found_values))
        for failed in islice(result.failed_checks(), _MAX_VIOLATIONS)
    ]
    return InvalidRequest(f"none of the {result.event_count} events is allowed", violations=violations)


def _path(failed: FailedCheck) -> str:
    event = f"events[{failed.index}]"
    return event if failed.field is EventField.EVENT else f"{event}.{failed.field.value}"
