"""What docs/events.md says of each field of an event; the bounds are those of the code."""

from datetime import timedelta

from services.chassis.settings import describe_settings
from services.domain.event_fields import (
    MAX_ATTRIBUTE_KEY,
    MAX_ATTRIBUTE_VALUE,
    MAX_HOST,
    MAX_RECORD_ID,
    MAX_SERVICE,
    MAX_STATUS,
    MIN_STATUS,
    TRACE_ID_DIGITS,
)
from services.ingest.core.field_checks import MAX_AHEAD
from services.ingest.settings import Settings

_INGEST = {each.name: each.default or "" for each in describe_settings(Settings, "INGEST_")}
_MINUTES_AHEAD = MAX_AHEAD // timedelta(minutes=1)

_TRACE_ID = (
    f"The W3C trace id of the operation. {TRACE_ID_DIGITS // 2} digits are padded with zeros; capitals and the "
    "dashes of a UUID are converted."
)
_ATTRIBUTES = (
    f"{_INGEST['INGEST_MAX_ATTRIBUTES']} entries (`INGEST_MAX_ATTRIBUTES`), keys of 1 to {MAX_ATTRIBUTE_KEY} and "
    f"values of {MAX_ATTRIBUTE_VALUE} characters"
)

# What each field of an event is, what it may hold, an example, and what becomes of a value that does not fit.
EVENT_FIELDS = {
    "recordId": ("Your own name of the event.", f"{MAX_RECORD_ID} characters", "order-4711", "cut"),
    "eventTime": (
        "When it happened; the time of arrival when absent.",
        f"from 1970 to {_MINUTES_AHEAD} minutes ahead",
        "2026-11-27T10:00:00.123Z",
        "the event is refused",
    ),
    "service": ("Which service wrote it.", f"1 to {MAX_SERVICE} characters", "payment-service", "the event is refused"),
    "level": ("How severe it is.", "", "ERROR", "the event is refused"),
    "message": (
        "The text of the log line.",
        f"1 to {_INGEST['INGEST_MAX_MESSAGE_BYTES']} bytes (`INGEST_MAX_MESSAGE_BYTES`)",
        "no space left",
        "the event is refused",
    ),
    "statusCode": (
        "The HTTP or similar status of the operation.",
        f"{MIN_STATUS} to {MAX_STATUS}",
        "503",
        "kept as the attribute `status_code`",
    ),
    "responseTime": (
        "How long the operation took, in milliseconds. In JSON a string may have a unit: ns, us, µs, ms, s, m.",
        "finite, not negative",
        "250.5",
        "kept as the attribute `response_time`",
    ),
    "host": ("The machine or pod.", f"{MAX_HOST} characters", "web-1", "cut"),
    "traceId": (
        _TRACE_ID,
        f"{TRACE_ID_DIGITS} hexadecimal digits",
        "4bf92f3577b34da6a3ce929d0e0e4736",
        "kept as the attribute `trace_id`",
    ),
    "attributes": (
        "Anything else.",
        _ATTRIBUTES,
        '{"user.tier": "silver"}',
        "longer ones are cut, further ones left out",
    ),
}
