"""JSON as clients send it, and what was adjusted in it."""

import json

from tocsin.logs.v1.log_ingest_service_pb2 import AdjustedEvents, AdjustedValue

OWN = {"service": "payment-service", "level": "ERROR", "message": "no connection"}
CURL = (
    b'{"service":"payment-service","level":"ERROR","message":"Database connection failed",'
    b'"statusCode":500,"responseTime":5000}'
)


def with_members(text: str) -> bytes:
    """Return an allowed event's JSON, with this text behind its last field."""
    return json.dumps(OWN)[:-1].encode() + b"," + text.encode() + b"}"


def adjusted_fields(adjusted: AdjustedEvents) -> set[str]:
    """Return what was adjusted, as "field ACTION"."""
    return {f"{value.field} {AdjustedValue.Action.Name(value.action)}" for value in adjusted.values}
