"""A change of one alert: the row after it, the lines of history, and what people are told."""

from dataclasses import dataclass, replace
from datetime import datetime

from services.domain.alert import Command, Life, Reason, State, Verdict, obey
from services.manager.core.alert import Alert, Entry, Kind, Notice, Subject, alert_id, entry_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What is written in one transaction for one step of one alert."""

    alert: Alert
    entries: tuple[Entry, ...] = ()
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a person, or the system when `actor` is empty, wants done to an alert."""

    command: Command
    actor: str = ""
    comment: str = ""


def begun(subject: Subject, transition_id: str, life: Life, *, now: datetime) -> Change:
    """A new alert, told to be firing."""
    fired = life.last_firing.time
    alert = Alert(
        id=alert_id(fingerprint=subject.fingerprint, transition_id=transition_id),
        subject=subject,
        life=life,
        fire_time=fired,
        update_time=now,
    )
    entry = Entry(id=entry_id(alert.id, Kind.FIRED), alert_id=alert.id, kind=Kind.FIRED, create_time=fired)
    return Change(alert=alert, entries=(entry,), notices=(Notice.FIRING,))


def repeated(
    alert: Alert, transition_id: str, life: Life, verdict: Verdict, subject: Subject, *, now: datetime
) -> Change:
    """It fired again while it was open; nobody is told."""
    entry = Entry(
        id=entry_id(alert.id, Kind.REPEATED, transition_id),
        alert_id=alert.id,
        kind=Kind.REPEATED,
        create_time=verdict.time,
    )
    is_edited = life.last_firing.revision > alert.life.last_firing.revision
    after = replace(_next(alert, life, now), subject=subject if is_edited else alert.subject)
    return Change(alert=after, entries=(entry,))


def updated(alert: Alert, transition_id: str, life: Life, subject: Subject, *, now: datetime) -> Change:
    """Its rule was edited while it is open; nobody is told."""
    entry = Entry(
        id=entry_id(alert.id, Kind.UPDATED, transition_id),
        alert_id=alert.id,
        kind=Kind.UPDATED,
        create_time=life.last_firing.time,
        comment=_difference(alert.subject, subject),
    )
    return Change(alert=replace(_next(alert, life, now), subject=subject), entries=(entry,))


def superseded(alert: Alert, successor: str, verdict: Verdict, *, now: datetime) -> Change:
    """Another alert takes its place and is told instead; its own end only closes what a channel keeps open."""
    entry = Entry(
        id=entry_id(alert.id, Kind.SUPERSEDED),
        alert_id=alert.id,
        kind=Kind.SUPERSEDED,
        create_time=verdict.time,
        comment=f"by {successor}",
    )
    life = replace(alert.life, state=State.RESOLVED)
    over = replace(_next(alert, life, now), resolve_time=verdict.time, superseded_by=successor)
    return Change(alert=over, entries=(entry,), notices=(Notice.RESOLVED,))


def recovered(alert: Alert, life: Life, verdict: Verdict, *, now: datetime) -> Change:
    """The trouble went away by itself."""
    entry = Entry(id=entry_id(alert.id, Kind.RESOLVED), alert_id=alert.id, kind=Kind.RESOLVED, create_time=verdict.time)
    over = replace(_next(alert, life, now), resolve_time=verdict.time)
    return Change(alert=over, entries=(entry,), notices=(Notice.RESOLVED,))


def carry_out(alert: Alert, order: Order, *, now: datetime) -> tuple[Change | None, Reason]:
    """What a command does to an alert; no change when it is done already or the alert's state does not allow it."""
    life, reason = obey(alert.life, order.command)
    if life == alert.life:
        return None, reason
    if order.command is Command.ACKNOWLEDGE:
        kind, notice = Kind.ACKNOWLEDGED, Notice.ACKNOWLEDGED
        after = replace(_next(alert, life, now), acknowledge_time=now, acknowledged_by=order.actor)
    else:
        kind, notice = Kind.RESOLVED, Notice.RESOLVED
        after = replace(_next(alert, life, now), resolve_time=now, resolved_by=order.actor)
    entry = Entry(
        id=entry_id(alert.id, kind),
        alert_id=alert.id,
        kind=kind,
        create_time=now,
        actor=order.actor,
        comment=order.comment,
    )
    return Change(alert=after, entries=(entry,), notices=(notice,)), reason


def _difference(before: Subject, after: Subject) -> str:
    if before.severity is not after.severity:
        return f"severity {before.severity.name} to {after.severity.name}"
    return "the rule was edited"


def _next(alert: Alert, life: Life, now: datetime) -> Alert:
    return replace(alert, life=life, version=alert.version + 1, update_time=now)
