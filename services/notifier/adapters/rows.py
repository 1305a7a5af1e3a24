"""Between rows of the table `deliveries` and the core's values."""

import asyncpg

from services.notifier.core.delivery import Delivery, Reason, State, Turn
from services.notifier.core.message import Kind

COLUMNS = (
    "id, notification_id, alert_id, kind, channel, fallback_for, state, turn, attempt_count, round_start, due_at, "
    "reason, last_error, created_at, updated_at, failed_at"
)


def delivery_of(row: asyncpg.Record) -> Delivery:
    """The delivery in a row."""
    return Delivery(
        id=row["id"],
        notification_id=row["notification_id"],
        alert_id=row["alert_id"],
        kind=Kind(row["kind"]),
        channel=row["channel"],
        fallback_for=row["fallback_for"],
        state=State(row["state"]),
        turn=Turn(row["turn"]),
        attempt_count=row["attempt_count"],
        round_start=row["round_start"],
        due_at=row["due_at"],
        reason=Reason(row["reason"]) if row["reason"] else None,
        last_error=row["last_error"],
        created_at=row["created_at"],
        failed_at=row["failed_at"],
    )
