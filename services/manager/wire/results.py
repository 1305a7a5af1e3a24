"""What became of a delivery, on the wire."""

from services.contract.timestamps import datetime_of
from services.manager.core.alert import Entry, Kind, entry_id
from services.manager.wire.alerts import UnusableRecordError
from tocsin.notifications.v1 import notification_pb2 as pb


def entry(message: pb.NotificationResult, *, trace_id: str = "") -> Entry:
    """A line of the alert's history, in the trace of the delivery.

    A delivery that failed may be taken after all later on: two lines, each once however often it is told. Raises
    UnusableRecordError naming the first field that is missing.
    """
    for field in ("delivery_id", "alert_id", "channel"):
        if not getattr(message, field):
            raise UnusableRecordError(f"{field} is missing")
    kind = _kind(message)
    try:
        ended = datetime_of(message.create_time)
    except ValueError as error:
        raise UnusableRecordError("create_time is out of range") from error
    return Entry(
        id=entry_id(message.alert_id, kind, message.delivery_id),
        alert_id=message.alert_id,
        kind=kind,
        create_time=ended,
        comment=_comment(message),
        channel=message.channel,
        trace_id=trace_id,
    )


def _kind(message: pb.NotificationResult) -> Kind:
    match message.outcome:
        case pb.NotificationResult.DELIVERED:
            return Kind.NOTIFIED
        case pb.NotificationResult.FAILED:
            return Kind.NOTIFICATION_FAILED
        case _:
            raise UnusableRecordError("outcome is missing")


def _comment(message: pb.NotificationResult) -> str:
    told = pb.Notification.Kind.Name(message.kind) if message.kind in pb.Notification.Kind.values() else ""
    instead = f"in place of {message.fallback_for}" if message.fallback_for else ""
    return "; ".join(part for part in (told, instead, message.reason) if part)
