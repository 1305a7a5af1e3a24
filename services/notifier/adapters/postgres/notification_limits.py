"""The table `notification_limits`: what each tenant has used of its limit, and which of its notifications are held."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

from services.chassis.postgres import Connection
from services.domain.tenants import TenantLimits
from services.notifier.adapters.limit_messages import encode_notice
from services.notifier.core.bundle import notice_subject
from services.notifier.core.notification import NotificationKind
from services.notifier.core.notification_limit import LimitDecision, LimitUsage, limit_notification
from services.notifier.ports import PlannedNotification

_COLUMNS = "used_until, held_since, notice_time, open_notice, notices"
_INSERT = "INSERT INTO notification_limits (tenant) VALUES ($1) ON CONFLICT DO NOTHING"
_SELECT_FOR_UPDATE = f"SELECT {_COLUMNS} FROM notification_limits WHERE tenant = $1 FOR UPDATE"  # noqa: S608 - columns
_UPDATE = """
UPDATE notification_limits
SET used_until = $2, held_since = $3, notice_time = $4, open_notice = $5, notices = $6 WHERE tenant = $1
"""
_SELECT_BEGUN = """
SELECT DISTINCT subject_id FROM deliveries WHERE subject_id = ANY ($1) AND state NOT IN ('HELD', 'SUPERSEDED')
"""

_ENDS = (NotificationKind.ACKNOWLEDGED, NotificationKind.RESOLVED)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldNotifications:
    """What the limits hold of some notifications: their ids with the limit, how many, and notices to the tenants."""

    limits: Mapping[UUID, int]
    by_tenant: Mapping[str, int]
    notices: Sequence[PlannedNotification]


async def hold_beyond_limits(
    connection: Connection, planned: Iterable[PlannedNotification], limits: TenantLimits, now: datetime
) -> HeldNotifications:
    """Decide which of these, which are new and have channels, are held; the rows of their tenants stay locked."""
    limited: dict[str, list[PlannedNotification]] = {}
    for each in planned:
        if limits.of(each.tenant):
            limited.setdefault(each.tenant, []).append(each)
    held: dict[UUID, int] = {}
    counts: Counter[str] = Counter()
    notices: list[PlannedNotification] = []
    # In one order, so that two that lock several rows do not wait for each other.
    for tenant in sorted(limited):
        limit, usage = limits.of(tenant), await load_for_update(connection, tenant)
        begun = await _begun_subjects(connection, limited[tenant])
        for each in limited[tenant]:
            is_always_sent = each.is_critical or each.only is not None or _ends_begun(each, begun)
            step = limit_notification(usage, limit, is_always_sent=is_always_sent, now=now)
            usage = step.usage
            if step.begins_notice:
                notices.append(notice_of(tenant, usage.open_notice, NotificationKind.FIRING, now, each.channels))
            if step.decision is LimitDecision.HELD:
                held[each.notification_id] = limit
                counts[tenant] += 1
            else:
                begun.add(each.subject_id)
        await store(connection, tenant, usage)
    return HeldNotifications(limits=held, by_tenant=counts, notices=notices)


def notice_of(
    tenant: str, number: int, kind: NotificationKind, now: datetime, channels: tuple[str, ...] = ()
) -> PlannedNotification:
    """Return a notice to a tenant; its end goes to the channels that its beginning went to."""
    notification_id, subject = uuid4(), notice_subject(tenant, number)
    return PlannedNotification(
        notification_id=notification_id,
        subject_id=subject,
        sequence=kind,
        alert_id=subject,
        incident_id="",
        kind=kind,
        record=encode_notice(notification_id, tenant, number, kind, now),
        traceparent="",
        channels=channels,
        tenant=tenant,
    )


async def load_for_update(connection: Connection, tenant: str) -> LimitUsage:
    """Return what a tenant has used; nobody else decides of it until the transaction ends."""
    await connection.execute(_INSERT, tenant)
    row = await connection.fetchrow(_SELECT_FOR_UPDATE, tenant)
    return LimitUsage(**dict(row)) if row is not None else LimitUsage()


async def store(connection: Connection, tenant: str, usage: LimitUsage) -> None:
    """Update what a tenant has used."""
    await connection.execute(
        _UPDATE,
        tenant,
        usage.used_until,
        usage.held_since,
        usage.notice_time,
        usage.open_notice,
        usage.notices,
    )


async def _begun_subjects(connection: Connection, planned: Iterable[PlannedNotification]) -> set[str]:
    """Return those subjects of which something was sent, as far as an end of them is among these."""
    ending = [each.subject_id for each in planned if each.kind in _ENDS]
    if not ending:
        return set()
    return {row["subject_id"] for row in await connection.fetch(_SELECT_BEGUN, ending)}


def _ends_begun(notification: PlannedNotification, begun: set[str]) -> bool:
    return notification.kind in _ENDS and notification.subject_id in begun
