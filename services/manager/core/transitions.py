"""Decide what a batch of the evaluator's transitions does to the alerts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from services.manager.core.alert import Alert, AlertSubject
from services.manager.core.alert_changes import (
    AlertChange,
    Silencing,
    nothing_silenced,
    open_alert,
    recover,
    repeat,
    supersede,
    update,
)
from services.manager.core.alert_lifecycle import (
    AlertReason,
    AlertStatus,
    EpisodeHistory,
    Evaluation,
    Observation,
    apply_observation,
)
from services.manager.core.rule_edits import RuleEnding

# The open key of a group, and the start of the window with which the episode began.
EpisodeKey = tuple[str, datetime]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedTransition:
    """One observation of the evaluator about one group of one rule."""

    id: str
    subject: AlertSubject
    observation: Observation

    @property
    def open_key(self) -> str:
        """Return the key of the open alert that it is about."""
        return self.subject.open_key

    @property
    def evaluation(self) -> Evaluation:
        """Return when, and about which episode, the evaluator decided."""
        return self.observation.evaluation

    @property
    def episode_key(self) -> EpisodeKey:
        """Return the key of the episode that it is about."""
        return self.open_key, self.evaluation.episode

    @property
    def key(self) -> tuple[str, str]:
        """Return what is processed once. The severity is in the fingerprint but not in the id, hence both."""
        return self.id, self.subject.fingerprint


@dataclass(frozen=True, slots=True, kw_only=True)
class TransitionOutcome:
    """What became of one transition, and the change if there is one.

    A raised severity makes two: the end of the alert before, and the beginning of the one that takes its place.
    """

    transition: ReceivedTransition
    reason: AlertReason
    change: AlertChange | None = None
    superseded: AlertChange | None = None

    @property
    def changes(self) -> tuple[AlertChange, ...]:
        """Return all changes, in their order."""
        return tuple(change for change in (self.superseded, self.change) if change is not None)


@dataclass(frozen=True, slots=True)
class TransitionContext:
    """What is stored before a batch: open alerts by their open key, histories of its episodes, processed keys."""

    open_alerts: dict[str, Alert] = field(default_factory=dict)
    histories: dict[EpisodeKey, EpisodeHistory] = field(default_factory=dict)
    processed: set[tuple[str, str]] = field(default_factory=set)
    # The newest ending of each rule whose alerts are still being resolved, by its id.
    rule_endings: Mapping[str, RuleEnding] = field(default_factory=dict)

    def copy(self) -> "TransitionContext":
        """Return a copy that can be changed."""
        return TransitionContext(dict(self.open_alerts), dict(self.histories), set(self.processed), self.rule_endings)


def decide(
    before: TransitionContext,
    transitions: Iterable[ReceivedTransition],
    now: datetime,
    silencing: Silencing = nothing_silenced,
) -> tuple[TransitionContext, list[TransitionOutcome]]:
    """Return what is known after the transitions, in this order, and what became of each.

    A transition that was processed before, or earlier in the batch, does nothing.
    """
    context = before.copy()
    return context, [_decide(context, transition, now, silencing) for transition in transitions]


def _decide(
    context: TransitionContext, transition: ReceivedTransition, now: datetime, silencing: Silencing
) -> TransitionOutcome:
    if transition.key in context.processed:
        return TransitionOutcome(transition=transition, reason=AlertReason.DUPLICATE)
    alert = context.open_alerts.get(transition.open_key)
    history = context.histories.get(transition.episode_key, EpisodeHistory())
    status, reason = apply_observation(alert.status if alert else None, history, transition.observation)
    if status is not None and (alert is None or reason is AlertReason.RAISED):
        change: AlertChange | None = _opened(transition, status, history, now, silencing)
    else:
        change = _change(transition, alert, status, reason, context.rule_endings.get(transition.subject.rule_id), now)
    superseded = None
    if reason is AlertReason.RAISED and alert is not None and change is not None:
        superseded = supersede(alert, change.alert.id, transition.evaluation.time, now=now)
    context.processed.add(transition.key)
    context.histories[transition.episode_key] = history.including(transition.observation)
    if change is not None:
        context.open_alerts.pop(transition.open_key, None)
        if change.alert.is_open:
            context.open_alerts[transition.open_key] = change.alert
    return TransitionOutcome(transition=transition, reason=reason, change=change, superseded=superseded)


def _change(
    transition: ReceivedTransition,
    alert: Alert | None,
    status: AlertStatus | None,
    reason: AlertReason,
    ending: RuleEnding | None,
    now: datetime,
) -> AlertChange | None:
    if status is None or alert is None:
        return None
    if reason is AlertReason.UPDATED:
        return update(alert, transition.id, status, transition.subject, now=now)
    if status.is_open:
        return repeat(alert, transition.id, status, transition.evaluation.time, transition.subject, now=now)
    comment = _why_ended(alert, transition.evaluation, ending)
    return recover(alert, status, transition.evaluation, comment, now=now)


def _why_ended(alert: Alert, evaluation: Evaluation, ending: RuleEnding | None) -> str:
    """Say what an edit of the rule has to do with the end of an alert; nothing when there was none since it fired."""
    revision = alert.status.last_firing.rule_revision
    if ending is not None and revision < ending.revision:
        return ending.comment
    if revision < evaluation.rule_revision:
        return f"the condition no longer held, by revision {evaluation.rule_revision} of the rule"
    return ""


def _opened(
    transition: ReceivedTransition, status: AlertStatus, history: EpisodeHistory, now: datetime, silencing: Silencing
) -> AlertChange:
    change = open_alert(transition.subject, transition.id, status, now=now, silencing=silencing)
    if status.is_open or history.ended is None:
        return change
    # Its end came first: receivers are notified of both, so that nobody misses what happened.
    end = recover(change.alert, status, history.ended, now=now)
    return AlertChange(alert=end.alert, history=change.history + end.history)
