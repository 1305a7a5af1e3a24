"""The steps of an explanation, in words: each entry of a history, and what an alert's row has of rule and window."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import groupby

from services.manager.core.alert import AlertHistoryEntry, AlertHistoryKind, NotifiedState
from services.manager.core.correlation import CauseReason
from services.manager.core.explanation import (
    ExplainedAlert,
    ExplainedIncident,
    ExplainedWindow,
    Explanation,
    ExplanationRecord,
    ExplanationStep,
    Reference,
    ReferenceKind,
    RuleRevision,
    StepKind,
    explanation_of,
)
from services.manager.core.explanation_notifications import (
    NOTIFICATION_KINDS,
    is_inhibition,
    is_withholding,
    words_of_notification,
    words_of_silence,
)
from services.manager.core.incident import (
    Correlation,
    CorrelationReason,
    IncidentHistoryEntry,
    IncidentHistoryKind,
    WithheldReason,
)

# What the comment of a silenced alert's entry begins with, and of one that another took the place of.
_BY = "by "
# What a failed delivery is recorded with whose channel was not called.
_BREAKER_WORDS = "breaker is open"
_DELIVERY_KINDS = frozenset({AlertHistoryKind.NOTIFIED, AlertHistoryKind.NOTIFICATION_FAILED})
_STATES = {
    NotifiedState.FIRING: "fires",
    NotifiedState.ACKNOWLEDGED: "was acknowledged",
    NotifiedState.RESOLVED: "has ended",
    None: "changed",
}
_CAUSES = {
    CauseReason.ONLY_ALERT.value: "no other alert is open",
    CauseReason.DEPENDENCY.value: "services of other alerts depend on its service",
    CauseReason.EARLIEST.value: "no dependency tells, and it fired first",
}
# What needs no more words, and the kind of the step.
_COMMANDS = {
    IncidentHistoryKind.ACKNOWLEDGED: (StepKind.ACKNOWLEDGED, "acknowledged the incident"),
    IncidentHistoryKind.UNACKNOWLEDGED: (StepKind.ACKNOWLEDGED, "took the acknowledgement back"),
    IncidentHistoryKind.ACKNOWLEDGEMENT_EXPIRED: (StepKind.ACKNOWLEDGED, "The acknowledgement ended"),
    IncidentHistoryKind.ASSIGNED: (StepKind.INCIDENT_CHANGED, "assigned the incident"),
    IncidentHistoryKind.COMMENTED: (StepKind.INCIDENT_CHANGED, "commented"),
    IncidentHistoryKind.MERGED: (StepKind.INCIDENT_CHANGED, "took over the alerts of another incident"),
    IncidentHistoryKind.SPLIT: (StepKind.INCIDENT_CHANGED, "split the incident"),
}

_MEMBER_KINDS = frozenset(
    {
        IncidentHistoryKind.OPENED,
        IncidentHistoryKind.JOINED,
        IncidentHistoryKind.REOPENED,
        IncidentHistoryKind.CAUSE_CHANGED,
        IncidentHistoryKind.ALERT_RESOLVED,
    }
)
# They are recorded with one alert, and concern all.
_OF_WHOLE_INCIDENT = frozenset(
    {
        IncidentHistoryKind.CAUSE_CHANGED,
        IncidentHistoryKind.REOPENED,
        IncidentHistoryKind.NOTIFIED,
        IncidentHistoryKind.ESCALATED,
        IncidentHistoryKind.NOTIFICATION_FAILED,
    }
)
# The kind of a step, its text, and what decided.
_Words = tuple[StepKind, str, str]


def explain_alert(record: ExplanationRecord) -> Explanation:
    """Explain the one alert of a record."""
    alert = record.alerts[0]
    withholdings = _withholdings_of(alert, record)
    history = [entry for each in record.incidents for entry in each.history if _concerns(entry, alert, withholdings)]
    # The incident's history says so as well, when it has taken note.
    withheld = {entry.decided_by for entry in history if entry.kind is IncidentHistoryKind.WITHHELD}
    own = [entry for entry in alert.history if not (set(silence_ids_of([entry])) & withheld)]
    steps = list(_alert_steps(replace(alert, history=own), record))
    steps += (_incident_step(entry, record) for entry in history)
    # Before it fired, and while it was withheld, people were notified of others of the incident.
    deliveries = [
        each
        for each in record.deliveries
        if each.alert_id == alert.alert.id
        or (_is_since(each, alert) and not _is_withheld(withholdings, each.create_time))
    ]
    return explanation_of([*steps, *_delivery_steps(_each_once(deliveries, alert.alert.id), record)])


def explain_incident(record: ExplanationRecord) -> Explanation:
    """Explain the one incident of a record."""
    steps = [step for each in record.alerts for step in _alert_steps(each, record)]
    steps += (_incident_step(entry, record) for each in record.incidents for entry in each.history)
    return explanation_of([*steps, *_delivery_steps(_each_once(record.deliveries), record)])


def split_of(explained: ExplainedIncident) -> IncidentHistoryEntry | None:
    """Return the entry that names the incident from which this one was split; None where it was not."""
    splits = (entry for entry in explained.history if entry.kind is IncidentHistoryKind.SPLIT)
    return next((entry for entry in splits if entry.create_time == explained.incident.create_time), None)


def merged_ids_of(explained: ExplainedIncident) -> list[str]:
    """Return the ids of the incidents whose alerts this one has taken over."""
    if explained.incident.merged_into:
        return []
    merges = (entry for entry in explained.history if entry.kind is IncidentHistoryKind.MERGED)
    return list(dict.fromkeys(entry.decided_by for entry in merges))


def silence_ids_of(
    history: Sequence[AlertHistoryEntry], incident_history: Sequence[IncidentHistoryEntry] = ()
) -> list[str]:
    """Return the ids of the silences that the histories of an alert and an incident name, each once."""
    of_alert = (entry.comment.removeprefix(_BY) for entry in history if entry.kind is AlertHistoryKind.SILENCED)
    of_incident = (entry.decided_by for entry in incident_history if entry.comment == WithheldReason.SILENCED.words)
    return list(dict.fromkeys((*of_alert, *of_incident)))


def _is_since(entry: AlertHistoryEntry | IncidentHistoryEntry, explained: ExplainedAlert) -> bool:
    return entry.create_time >= explained.alert.fire_time


def _withholdings_of(explained: ExplainedAlert, record: ExplanationRecord) -> list[IncidentHistoryEntry]:
    """Return what incidents say of when an alert was withheld, and of when this ended; the newest first."""
    history = (entry for each in record.incidents for entry in each.history)
    own = [entry for entry in history if entry.alert_id == explained.alert.id]
    withholdings = [entry for entry in own if entry.kind is IncidentHistoryKind.WITHHELD]
    return sorted(withholdings, key=lambda entry: entry.create_time)[::-1]


def _is_withheld(withholdings: Sequence[IncidentHistoryEntry], time: datetime) -> bool:
    last = next((entry for entry in withholdings if entry.create_time <= time), None)
    return last is not None and is_withholding(last)


def _concerns(
    entry: IncidentHistoryEntry, explained: ExplainedAlert, withholdings: Sequence[IncidentHistoryEntry]
) -> bool:
    """Return whether an entry is about an alert, or about the whole incident since it fired.

    While it is withheld, people are notified of others.
    """
    if entry.alert_id == explained.alert.id:
        # Its own end stands in its history.
        return entry.kind is not IncidentHistoryKind.ALERT_RESOLVED
    if not _is_since(entry, explained) or (entry.alert_id and entry.kind not in _OF_WHOLE_INCIDENT):
        return False
    return entry.kind not in NOTIFICATION_KINDS or not _is_withheld(withholdings, entry.create_time)


def inhibiting_ids_of(incident_history: Sequence[IncidentHistoryEntry]) -> list[str]:
    """Return the ids of the alerts that inhibited others, as an incident's history names them, each once."""
    named = (entry.decided_by for entry in incident_history if is_inhibition(entry))
    return list(dict.fromkeys(named))


def _alert_steps(explained: ExplainedAlert, record: ExplanationRecord) -> Iterator[ExplanationStep]:
    """Yield what an alert's row and history say, but for its deliveries."""
    alert = explained.alert
    revision = f"revision {explained.revisions[0]} of the rule" if explained.revisions else "the rule"
    references = (
        Reference(ReferenceKind.RULE, alert.subject.rule_id),
        Reference(ReferenceKind.ALERT, alert.id),
    )
    for number in explained.revisions:
        rule = explained.rules.get(number)
        if rule is None or rule.rule_id != alert.subject.rule_id:
            time, text = alert.fire_time, "Its text is not stored any more."
        else:
            time, text = _words_of_rule(rule)
        yield ExplanationStep(
            time=time,
            kind=StepKind.RULE,
            text=f"Revision {number} of the rule: {text}",
            references=references[:1],
        )
    if explained.window is not None:
        yield ExplanationStep(
            time=alert.fire_time,
            kind=StepKind.EVALUATED,
            text=f"{record.name_of(alert.id)}: {_words_of_window(explained.window)}",
            decided_by=revision,
            references=references,
        )
    for kind, entries in groupby(explained.history, key=lambda entry: entry.kind):
        if kind is AlertHistoryKind.REPEATED:
            yield _repeated_step(list(entries), record)
        elif kind is AlertHistoryKind.NOTIFICATION_HELD:
            yield from (_held_step(entry, record) for entry in entries)
        elif kind not in _DELIVERY_KINDS:
            yield from (_alert_step(entry, revision, record) for entry in entries)


def _words_of_rule(rule: RuleRevision) -> tuple[datetime, str]:
    filters = " and ".join(f"({text})" for text in (rule.scope, rule.filter) if text)
    events = f"events where {filters}" if filters else "all events"
    groups = f", for each {', '.join(rule.group_by)}" if rule.group_by else ""
    window = f"window of {_words_of_span(rule.window)}"
    what = f'"{rule.name}" fires when {rule.condition} of {events} in a {window}{groups}'
    return rule.edit_time, f"{what}; the threshold is {rule.threshold:.15g}."


def _words_of_window(window: ExplainedWindow) -> str:
    """Return the numbers that the condition reads; of a rate those that it is made of."""
    read = {"count", *re.findall(r"[a-z_]+", window.condition)}
    if "rate" in read:
        read.add("total")
    numbers = ", ".join(f"{name} {value:.15g}" for name, value in window.numbers.items() if name in read)
    span = f"{window.start:%Y-%m-%d %H:%M:%S} to {window.end:%H:%M:%S} UTC"
    held = f"{window.condition} held, with the threshold {window.threshold:.15g}"
    return f"{numbers} in the window from {span}. The condition {held}."


def _words_of_span(span: timedelta) -> str:
    """Return a span by its largest unit in which it is an integer: 90s, 5m, 2h."""
    seconds = round(span.total_seconds())
    size, unit = next((size, unit) for size, unit in ((3600, "h"), (60, "m"), (1, "s")) if seconds % size == 0)
    return f"{seconds // size}{unit}"


def _repeated_step(entries: Sequence[AlertHistoryEntry], record: ExplanationRecord) -> ExplanationStep:
    times = f"{len(entries)} times, until {entries[-1].create_time:%Y-%m-%d %H:%M:%S} UTC" if entries[1:] else "once"
    name = record.name_of(entries[0].alert_id)
    return ExplanationStep(
        time=entries[0].create_time,
        kind=StepKind.FIRED,
        text=f"{name} fired again while it was open, {times}. Nobody is notified of that.",
        references=(Reference(ReferenceKind.ALERT, entries[0].alert_id),),
    )


def _held_step(entry: AlertHistoryEntry, record: ExplanationRecord) -> ExplanationStep:
    name = record.name_of(entry.alert_id)
    return ExplanationStep(
        time=entry.create_time,
        kind=StepKind.WITHHELD,
        text=f"A notification of {name} to {entry.channel} waits for a bundle: {entry.comment}.",
        decided_by="the limit of notifications",
        references=(Reference(ReferenceKind.ALERT, entry.alert_id),),
    )


def _alert_step(entry: AlertHistoryEntry, revision: str, record: ExplanationRecord) -> ExplanationStep:
    """Return an entry of an alert's history as a step; repetitions and deliveries have their own."""
    name = record.name_of(entry.alert_id)
    references = [Reference(ReferenceKind.ALERT, entry.alert_id)]
    by = entry.comment.removeprefix(_BY)
    match entry.kind:
        case AlertHistoryKind.SILENCED:
            kind, text, decider = StepKind.WITHHELD, words_of_silence(name, by, record), f"silence {by}"
            references.append(Reference(ReferenceKind.SILENCE, by))
        case AlertHistoryKind.SUPERSEDED:
            kind, text = StepKind.RESOLVED, f"Another alert took the place of {name}: the rule's severity was raised."
            decider = "a newer revision of the rule"
            references.append(Reference(ReferenceKind.ALERT, by))
        case AlertHistoryKind.UPDATED:
            kind, text = StepKind.FIRED, f"{name} took over what was edited in its rule: {entry.comment}."
            decider = "a newer revision of the rule"
        case AlertHistoryKind.ACKNOWLEDGED:
            kind, text = StepKind.ACKNOWLEDGED, f"{entry.actor} acknowledged {name}{_said(entry.comment)}."
            decider = entry.actor
        case AlertHistoryKind.RESOLVED:
            kind, decider = StepKind.RESOLVED, entry.actor
            by_itself = f"{name} ended{_said(entry.comment or 'the condition no longer held')}."
            text = f"{entry.actor} resolved {name}{_said(entry.comment)}." if entry.actor else by_itself
        case _:
            kind, text, decider = StepKind.FIRED, f"{name} fired.", revision
    if entry.trace_id:
        references.append(Reference(ReferenceKind.TRACE, entry.trace_id))
    return ExplanationStep(
        time=entry.create_time, kind=kind, text=text, decided_by=decider, references=tuple(references)
    )


def _said(comment: str) -> str:
    return f": {comment}" if comment else ""


def _incident_step(entry: IncidentHistoryEntry, record: ExplanationRecord) -> ExplanationStep:
    """Return an entry of an incident's history as a step."""
    references = [Reference(ReferenceKind.INCIDENT, entry.incident_id)]
    if entry.alert_id:
        references.append(Reference(ReferenceKind.ALERT, entry.alert_id))
    if entry.kind in NOTIFICATION_KINDS:
        kind, text, decider, more = words_of_notification(entry, record)
        references += more
    elif entry.kind in _MEMBER_KINDS:
        kind, text, decider = _words_of_member(entry, record.name_of(entry.alert_id))
    else:
        kind, text, decider = _words_of_command(entry)
        # The other incident of a merge or a split.
        references += [Reference(ReferenceKind.INCIDENT, entry.decided_by)] if entry.decided_by else []
    return ExplanationStep(
        time=entry.create_time, kind=kind, text=text, decided_by=decider, references=tuple(references)
    )


def _words_of_member(entry: IncidentHistoryEntry, name: str) -> _Words:
    """Return what happened to one of an incident's alerts."""
    match entry.kind:
        case IncidentHistoryKind.OPENED:
            return StepKind.CORRELATED, f"{name} opened an incident: no open one is related to it.", "no relation"
        case IncidentHistoryKind.JOINED:
            relation = _words_of_relation(entry.correlation)
            return StepKind.CORRELATED, f"{name} joined an incident: {relation}.", relation
        case IncidentHistoryKind.REOPENED:
            return StepKind.INCIDENT_CHANGED, f"The incident is open again: {name} is related to it.", ""
        case IncidentHistoryKind.CAUSE_CHANGED:
            reason = _CAUSES.get(entry.comment, entry.comment)
            return StepKind.CAUSE_CHANGED, f"{name} is the probable cause: {reason}.", reason
        case _:
            return StepKind.RESOLVED, f"{name} ended.", ""


def _words_of_command(entry: IncidentHistoryEntry) -> _Words:
    """Return what somebody did to an incident, or time where there is no actor."""
    by = f"{entry.actor} " if entry.actor else ""
    if entry.kind is not IncidentHistoryKind.RESOLVED:
        kind, words = _COMMANDS[entry.kind]
        return kind, f"{by}{words}{_said(entry.comment)}.", entry.actor
    if entry.decided_by:
        text = "merged the incident into another one" if by else "The incident was merged into another one"
        return StepKind.INCIDENT_CHANGED, f"{by}{text}{_said(entry.comment)}.", entry.actor
    if entry.actor:
        return StepKind.RESOLVED, f"{by}resolved the incident{_said(entry.comment)}.", entry.actor
    return StepKind.RESOLVED, "The incident was resolved: its alerts had ended, and no other one joined.", ""


def _words_of_relation(correlation: Correlation) -> str:
    match correlation.reason:
        case CorrelationReason.SAME_RESOURCE:
            return "an alert of the same resource"
        case CorrelationReason.DEPENDENCY:
            if len(correlation.path) == 1:
                return "an alert of the same service"
            return f"the dependency {' → '.join(correlation.path)}"
        case CorrelationReason.LABELS:
            labels = ", ".join(f'{name}="{value}"' for name, value in correlation.labels.items())
            return f"the equal labels {labels}"
        case _:
            return "somebody put it there"


def _each_once(entries: Sequence[AlertHistoryEntry], alert_id: str = "") -> list[AlertHistoryEntry]:
    """Return one entry of each delivery: an alert's own one, else the first, of the alert that it was about."""
    found: dict[tuple[str, ...], AlertHistoryEntry] = {}
    for entry in entries:
        key = (entry.notification_id, entry.kind, entry.channel) if entry.notification_id else (entry.id,)
        if key not in found or entry.alert_id == alert_id:
            found[key] = entry
    return list(found.values())


def _delivery_steps(entries: Sequence[AlertHistoryEntry], record: ExplanationRecord) -> Iterator[ExplanationStep]:
    for entry in entries:
        references = [Reference(ReferenceKind.ALERT, entry.alert_id)]
        if entry.trace_id:
            references.append(Reference(ReferenceKind.TRACE, entry.trace_id))
        where = f"{entry.channel} ({entry.recipient})" if entry.recipient else entry.channel
        what = f"{record.name_of(entry.alert_id)} {_STATES[entry.notified_state]}"
        # The comment begins with the kind of the notification.
        details = "; ".join(part for part in entry.comment.split("; ") if part and not part.isupper())
        is_delivered = entry.kind is AlertHistoryKind.NOTIFIED
        is_by_breaker = not is_delivered and _BREAKER_WORDS in details
        yield ExplanationStep(
            time=entry.create_time,
            kind=StepKind.DELIVERED if is_delivered else StepKind.DELIVERY_FAILED,
            text=f"{where} {'took' if is_delivered else 'did not take'} the notification: {what}"
            + (f" ({details})." if details else "."),
            decided_by=f"the circuit breaker of {entry.channel}" if is_by_breaker else "",
            channel=entry.channel,
            references=tuple(references),
        )
