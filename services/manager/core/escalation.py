"""How far the escalation of an incident has come, and whom its next step notifies.

An escalation follows one policy for one incident. It begins when the incident is first notified of through a route with
the policy, and each step begins its delay after the one before. It pauses while the incident is acknowledged: when the
acknowledgement ends, the next step begins at once. Of a step whose conditions do not hold, and of one of which no
notification could be delivered, the next one of the same round begins at once; a further round keeps its delay, so that
no failure makes a policy run in circles.

Its state is stored with the incident, in the transaction that writes the notifications: so a step is begun once,
whichever instance comes first, and one that is overdue after an outage begins at once and says how late it is. Delays
count from when a step really began: people have their time to answer. Where a step is repeated until somebody
acknowledges, the incident's history names ever fewer of the repeats; the histories of alerts have all deliveries.

A person is notified by the first of their receivers; when that one could not be reached, by the next.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from services.domain.severity import Severity
from services.manager.core.escalation_policy import EscalationPolicy, StepOutcome, StepPlace, StepTargets
from services.manager.core.on_call import OnCallDirectory

# Between rounds, whatever the policy says.
_MIN_DELAY = timedelta(seconds=10)
# What is later than this is said.
_LATE = timedelta(seconds=5)


class EscalationCause(StrEnum):
    """Why the next step begins."""

    STARTED = "started"
    NOT_ACKNOWLEDGED = "nobody acknowledged it"
    ACKNOWLEDGEMENT_ENDED = "the acknowledgement ended"
    NOT_DELIVERED = "no notification of the step before was delivered"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepNotification:
    """A notification of the step that began last; of a person, with the receivers that are left."""

    id: str
    person: str = ""
    rest: tuple[str, ...] = ()
    is_exhausted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Escalation:
    """Where a policy stands for an incident."""

    policy: str
    # The step that began last; None before the first one.
    place: StepPlace | None = None
    # When the next one begins, and why; None when it is paused, or none is left.
    due_time: datetime | None = None
    cause: EscalationCause = EscalationCause.STARTED
    is_paused: bool = False
    notifications: tuple[StepNotification, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EscalationMessage:
    """Whom a step notifies alike: receivers, or one person by one receiver, with those that are left."""

    policy: str
    receivers: tuple[str, ...]
    comment: str
    person: str = ""
    rest: tuple[str, ...] = ()
    # Whether the incident's history says so.
    is_recorded: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class EscalationTurn:
    """An escalation after a look at it, whom to notify, and what to write into the history: who decided, and why."""

    escalation: Escalation
    messages: tuple[EscalationMessage, ...] = ()
    entries: tuple[tuple[str, str], ...] = ()


def start_escalation(name: str, directory: OnCallDirectory, *, now: datetime) -> Escalation:
    """Return the escalation by a policy, before its first step."""
    policy = directory.policies.get(name)
    first = None if policy is None else policy.next_step(None)
    return Escalation(policy=name, due_time=now if first is None else now + first[1])


def unrecorded_notifications(escalations: Iterable[Escalation], directory: OnCallDirectory) -> set[str]:
    """Return the notifications of steps that are repeated without end, and that the history does not name."""
    found: set[str] = set()
    for escalation in escalations:
        policy = directory.policies.get(escalation.policy)
        if policy is not None and escalation.place is not None and not policy.is_recorded(escalation.place):
            found.update(each.id for each in escalation.notifications)
    return found


def run_escalation(
    escalation: Escalation,
    directory: OnCallDirectory,
    *,
    severity: Severity,
    is_acknowledged: bool,
    exhausted: Collection[str],
    now: datetime,
) -> EscalationTurn:
    """Begin the steps that are due, at most each of the policy once; notify people by their next receivers."""
    if is_acknowledged:
        return EscalationTurn(escalation=replace(escalation, is_paused=True, due_time=None))
    policy = directory.policies.get(escalation.policy)
    if escalation.is_paused:
        cause = EscalationCause.ACKNOWLEDGEMENT_ENDED
        escalation = replace(escalation, is_paused=False, due_time=now, cause=cause)
    turn = _next_receivers(escalation, exhausted)
    notifications = turn.escalation.notifications
    has_failed = bool(notifications) and not turn.messages and all(each.is_exhausted for each in notifications)
    if has_failed and turn.escalation.due_time is not None:
        turn = replace(turn, escalation=_hastened(turn.escalation, policy, now))
    for _ in range(1 if policy is None else len(policy.steps)):
        due_time = turn.escalation.due_time
        if due_time is None or due_time > now:
            break
        turn = _begin_step(turn, policy, directory, severity, now)
    return turn


def _next_receivers(escalation: Escalation, exhausted: Collection[str]) -> EscalationTurn:
    """Notify people whose receiver could not be reached by their next one."""
    left: list[StepNotification] = []
    messages = []
    for each in escalation.notifications:
        if each.id not in exhausted:
            left.append(each)
        elif not each.rest:
            left.append(replace(each, is_exhausted=True))
        else:
            comment = f"policy {escalation.policy}: {each.person} could not be reached otherwise"
            messages.append(_message_to(escalation.policy, each.person, each.rest, comment))
    return EscalationTurn(escalation=replace(escalation, notifications=tuple(left)), messages=tuple(messages))


def _hastened(escalation: Escalation, policy: EscalationPolicy | None, now: datetime) -> Escalation:
    """Return an escalation whose next step begins at once, unless it is one of a further round."""
    place = escalation.place
    following = None if policy is None else policy.next_step(place)
    if place is None or following is None or following[0].round != place.round:
        return escalation
    return replace(escalation, due_time=now, cause=EscalationCause.NOT_DELIVERED)


def _begin_step(
    turn: EscalationTurn,
    policy: EscalationPolicy | None,
    directory: OnCallDirectory,
    severity: Severity,
    now: datetime,
) -> EscalationTurn:
    before = turn.escalation
    following = None if policy is None else policy.next_step(before.place)
    if policy is None or following is None:
        # Its end, or it has become shorter or was deleted meanwhile.
        return replace(turn, escalation=replace(before, due_time=None))
    place = following[0]
    is_recorded = policy.is_recorded(place)
    targets = directory.step_targets(policy, place.step, severity=severity, at=now)
    comment = _words(targets, before, now)
    if policy.steps[place.step].until_acknowledged and place.round > 1:
        comment += f", repeat {place.round}"
    messages = [replace(each, is_recorded=is_recorded) for each in _messages(policy.name, targets, comment)]
    is_over = targets.outcome is StepOutcome.SKIPPED or not messages
    after = replace(
        before,
        place=place,
        due_time=_due_after(policy, place, is_over=is_over, now=now),
        cause=before.cause if targets.outcome is StepOutcome.SKIPPED else EscalationCause.NOT_ACKNOWLEDGED,
        notifications=(),
    )
    entries = ((f"policy {policy.name}, step {place.step + 1}", comment),) if is_recorded else ()
    return EscalationTurn(escalation=after, messages=(*turn.messages, *messages), entries=(*turn.entries, *entries))


def _due_after(policy: EscalationPolicy, place: StepPlace, *, is_over: bool, now: datetime) -> datetime | None:
    """Return when the step after this one begins."""
    following = policy.next_step(place)
    if following is None:
        return None
    next_place, delay = following
    if next_place.round != place.round:
        return now + max(delay, _MIN_DELAY)
    return now if is_over else now + delay


def _messages(policy: str, targets: StepTargets, comment: str) -> list[EscalationMessage]:
    messages = [
        _message_to(policy, person, receivers, f"{comment}; {person}")
        for person, receivers in targets.people.items()
        if receivers
    ]
    if targets.receivers:
        messages.insert(0, EscalationMessage(policy=policy, receivers=targets.receivers, comment=comment))
    return messages


def _message_to(policy: str, person: str, receivers: tuple[str, ...], comment: str) -> EscalationMessage:
    return EscalationMessage(policy=policy, receivers=receivers[:1], comment=comment, person=person, rest=receivers[1:])


def _words(targets: StepTargets, before: Escalation, now: datetime) -> str:
    parts = [targets.reason]
    if before.cause is not EscalationCause.STARTED:
        parts.append(before.cause.value)
    late = now - (before.due_time or now)
    if late >= _LATE:
        parts.append(f"{timedelta(seconds=int(late.total_seconds()))} late")
    return ", ".join(parts)
