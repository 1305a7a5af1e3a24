"""What an incident's history says of notifications, in words: who was to be notified and why, and what withheld it."""

from services.manager.core.explanation import ExplanationRecord, Reference, ReferenceKind, StepKind
from services.manager.core.incident import (
    IncidentHistoryEntry,
    IncidentHistoryKind,
    IncidentNotificationKind,
    NotifyReason,
    WithheldReason,
)
from services.manager.core.silence import Silence

# The kind of a step, its text, what decided, and what it is about besides the incident and the alert.
NotificationWords = tuple[StepKind, str, str, tuple[Reference, ...]]

NOTIFICATION_KINDS = frozenset(
    {
        IncidentHistoryKind.NOTIFIED,
        IncidentHistoryKind.WITHHELD,
        IncidentHistoryKind.FLAPPING,
        IncidentHistoryKind.ESCALATED,
        IncidentHistoryKind.NOTIFICATION_FAILED,
    }
)
_FILE = "the channels of the notifier's file"
_SUBJECTS = {
    IncidentNotificationKind.FIRING: "that {} fires",
    IncidentNotificationKind.UPDATED: "of what is new about {}",
    IncidentNotificationKind.ACKNOWLEDGED: "that somebody takes care of {}",
    IncidentNotificationKind.RESOLVED: "of the end of {}",
    None: "of {}",
}
# What decided, where the comment does not name it.
_DECIDERS = {
    NotifyReason.SEVERITY_RAISED: "a higher severity than they were notified of",
    NotifyReason.BUNDLED: "the bundling interval of their route",
    NotifyReason.FLAPPING: "flapping",
    NotifyReason.ENDED: "the end of the last alert",
}

_WITHHELD = {reason.words: reason for reason in WithheldReason}


def words_of_notification(entry: IncidentHistoryEntry, record: ExplanationRecord) -> NotificationWords:
    """Return an entry of NOTIFICATION_KINDS in words."""
    name = record.name_of(entry.alert_id) if entry.alert_id else "the incident"
    notifications = (Reference(ReferenceKind.NOTIFICATION, entry.notification_id),) if entry.notification_id else ()
    match entry.kind:
        case IncidentHistoryKind.NOTIFIED:
            decider = _DECIDERS.get(NotifyReason(entry.decided_by), entry.comment) if entry.decided_by else ""
            return StepKind.NOTIFIED, _words_of_receivers(entry, name, decider), decider, notifications
        case IncidentHistoryKind.WITHHELD:
            return _words_of_withholding(entry, name, record)
        case IncidentHistoryKind.FLAPPING:
            text = f"{name} flaps: it {entry.comment}. Receivers are notified in bundles."
            return StepKind.FLAPPING, text, "the settings of flapping", notifications
        case IncidentHistoryKind.ESCALATED:
            return StepKind.ESCALATED, f"Escalation: {entry.comment}.", entry.decided_by, notifications
        case _:
            text = f"{entry.comment[:1].upper()}{entry.comment[1:]}."
            return StepKind.DELIVERY_FAILED, text, entry.decided_by, notifications


def is_withholding(entry: IncidentHistoryEntry) -> bool:
    """Return whether an entry says that from now on nobody is notified of an alert, and not that this has ended."""
    return entry.kind is IncidentHistoryKind.WITHHELD and entry.comment.partition("; ")[0] in _WITHHELD


def is_inhibition(entry: IncidentHistoryEntry) -> bool:
    """Return whether an entry says that an alert, which it names, inhibits another."""
    reason = _WITHHELD.get(entry.comment.partition("; ")[0])
    is_inhibited = reason in {WithheldReason.INHIBITED_BY_RULE, WithheldReason.INHIBITED_BY_DEPENDENCY}
    return entry.kind is IncidentHistoryKind.WITHHELD and is_inhibited


def words_of_silence(name: str, silence_id: str, record: ExplanationRecord) -> str:
    """Return what it means that a silence holds of something."""
    silence = record.silences.get(silence_id)
    what = "a silence that is not stored any more" if silence is None else _words_of_author(silence)
    return f"Notifications of {name} are withheld: {what} holds of it."


def _words_of_receivers(entry: IncidentHistoryEntry, name: str, decider: str) -> str:
    receivers = ", ".join(entry.receivers) or _FILE
    comment = f" ({entry.comment})" if entry.comment not in {"", decider} else ""
    return f"To be notified {_SUBJECTS[entry.notified_kind].format(name)}: {receivers}{comment}."


def _words_of_withholding(entry: IncidentHistoryEntry, name: str, record: ExplanationRecord) -> NotificationWords:
    """Return what withholds an alert, which the comment begins with; nothing does any more where nothing decided."""
    by = entry.decided_by
    reason, _, details = entry.comment.partition("; ")
    match _WITHHELD.get(reason):
        case WithheldReason.SILENCED:
            references = (Reference(ReferenceKind.SILENCE, by),)
            return StepKind.WITHHELD, words_of_silence(name, by, record), f"silence {by}", references
        case WithheldReason.INHIBITED_BY_RULE | WithheldReason.INHIBITED_BY_DEPENDENCY:
            source = record.name_of(by)
            text = f"Notifications of {name} are withheld: {source} inhibits it{f' ({details})' if details else ''}."
            return StepKind.WITHHELD, text, f"alert {by}", (Reference(ReferenceKind.ALERT, by),)
        case WithheldReason.ACKNOWLEDGED:
            text = f"Notifications of {name} are withheld: {by} had acknowledged the incident, of which nobody knows."
            return StepKind.WITHHELD, text, by, ()
        case _:
            return StepKind.INCIDENT_CHANGED, f"Notifications of {name}: {entry.comment}.", by, ()


def _words_of_author(silence: Silence) -> str:
    matchers = f" {{{', '.join(map(str, silence.matchers))}}}" if silence.matchers else ""
    return f'a silence{matchers} by {silence.author} ("{silence.comment}")'
