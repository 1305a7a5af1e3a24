"""The life cycle of an alert: what an observation or a person's action makes of it, and why.

An *episode* is the time in which the condition of a rule holds for one group without a break. It is named by the start
of the window with which it began. The evaluator observes that an episode fires, perhaps again in later windows, and
that it ends; people acknowledge and resolve. Observations may come twice, late and in any order. The functions here
reach the same end from all of them, for three reasons:

- Each is a function of the open alert and of what was observed of the episode before (`EpisodeHistory`). The history
  keeps the newest firing and the newest end, whatever order they came in.
- An end closes the episode: a firing of it that comes later opens nothing. If it is the first firing, it makes an
  alert that is resolved at once, so that both are notified.
- At most one alert of a group is open, and its last firing only moves on to later episodes and newer revisions.

A rule that is edited while its episode is open is evaluated anew, under its newer revision. A raised severity makes
another alert of the same episode, which takes the open one's place and is notified. Any other edit changes the text of
the open alert and is not notified.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Self, assert_never

from services.domain.severity import Severity


class AlertState(StrEnum):
    """Where an alert stands; the names are those of the contract."""

    FIRING = "FIRING"
    ACKNOWLEDGED = "ACKNOWLEDGED"
    RESOLVED = "RESOLVED"


class AlertReason(StrEnum):
    """What an observation or an action did, and why: the first eight changed something."""

    FIRED = "fired"
    # The end was observed before the beginning: both are notified.
    FIRED_AND_RESOLVED = "fired_and_resolved"
    REPEATED = "repeated"
    # The rule was edited: the open alert takes over its new text.
    UPDATED = "updated"
    # The rule's severity was raised: another alert takes the open one's place.
    RAISED = "raised"
    ACKNOWLEDGED = "acknowledged"
    RECOVERED = "recovered"
    RESOLVED_BY_HAND = "resolved_by_hand"
    # The same transition was processed before.
    DUPLICATE = "duplicate"
    # It belongs to an episode that was notified and has ended since.
    LATE = "late"
    # The episode's alert was resolved by hand or by the end of a later episode: silent until another episode begins.
    EPISODE_CLOSED = "episode_closed"
    # The end of an episode before the one that is open.
    ENDED_BEFORE = "ended_before"
    NOT_OPEN = "not_open"
    ALREADY_ACKNOWLEDGED = "already_acknowledged"
    ALREADY_RESOLVED = "already_resolved"
    # A resolved alert cannot be acknowledged.
    NOT_ACKNOWLEDGEABLE = "not_acknowledgeable"


class AlertAction(StrEnum):
    """What people do to an alert."""

    ACKNOWLEDGE = "acknowledge"
    RESOLVE = "resolve"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """When, and under which revision and severity of the rule, the evaluator decided something about an episode.

    `selection_revision` is the revision of the rule at which its counting last began afresh; 0 where an evaluator of
    the former release left it out.
    """

    episode: datetime
    selection_revision: int
    rule_revision: int
    time: datetime
    severity: Severity

    def is_after(self, other: Self) -> bool:
        """Return whether this is about a later beginning: a later episode, or the same window counted afresh."""
        if self.episode != other.episode:
            return self.episode > other.episode
        return self.selection_revision > other.selection_revision > 0

    def is_edited_from(self, other: Self) -> bool:
        """Return whether this is about the same beginning, or a later one, under a newer revision of the rule."""
        return not other.is_after(self) and self.rule_revision > other.rule_revision


@dataclass(frozen=True, slots=True)
class Fired:
    """The condition became true, or is true again."""

    evaluation: Evaluation


@dataclass(frozen=True, slots=True)
class Ended:
    """The episode ended."""

    evaluation: Evaluation


Observation = Fired | Ended


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertStatus:
    """The part of an alert that observations and actions change."""

    state: AlertState
    last_firing: Evaluation
    repeat_count: int = 0

    @property
    def is_open(self) -> bool:
        """Return whether the alert is not resolved; at most one alert of a group is open."""
        return self.state is not AlertState.RESOLVED


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeHistory:
    """The newest firing and the newest end that were observed of one episode."""

    fired: Evaluation | None = None
    ended: Evaluation | None = None

    def including(self, observation: Observation) -> "EpisodeHistory":
        """Return the history with this observation in it, whatever the observation did to the alert."""
        match observation:
            case Fired(evaluation):
                return replace(self, fired=_newer(self.fired, evaluation))
            case Ended(evaluation):
                return replace(self, ended=_newer(self.ended, evaluation))
            case _:  # pragma: no cover
                assert_never(observation)


def apply_observation(
    alert: AlertStatus | None, history: EpisodeHistory, observation: Observation
) -> tuple[AlertStatus | None, AlertReason]:
    """Return the status after an observation, None when it changes nothing, and the reason.

    `alert` is the group's open alert; `history` is that of the observation's episode, without the observation.
    """
    match observation:
        case Fired(evaluation):
            return _apply_firing(alert, history, evaluation)
        case Ended(evaluation):
            return _apply_end(alert, evaluation)
        case _:  # pragma: no cover
            assert_never(observation)


def apply_action(alert: AlertStatus, action: AlertAction) -> tuple[AlertStatus, AlertReason]:
    """Return the status after a person's action; the same action again changes nothing."""
    match action, alert.state:
        case AlertAction.ACKNOWLEDGE, AlertState.FIRING:
            return replace(alert, state=AlertState.ACKNOWLEDGED), AlertReason.ACKNOWLEDGED
        case AlertAction.ACKNOWLEDGE, AlertState.ACKNOWLEDGED:
            return alert, AlertReason.ALREADY_ACKNOWLEDGED
        case AlertAction.ACKNOWLEDGE, _:
            return alert, AlertReason.NOT_ACKNOWLEDGEABLE
        case _, AlertState.RESOLVED:
            return alert, AlertReason.ALREADY_RESOLVED
        case _:
            return replace(alert, state=AlertState.RESOLVED), AlertReason.RESOLVED_BY_HAND


def _apply_firing(
    alert: AlertStatus | None, history: EpisodeHistory, evaluation: Evaluation
) -> tuple[AlertStatus | None, AlertReason]:
    has_ended = history.ended is not None and not evaluation.is_after(history.ended)
    if has_ended and history.fired is not None:
        return None, AlertReason.LATE
    if alert is not None:
        return _apply_firing_to_open(alert, evaluation, has_ended=has_ended)
    if has_ended:
        return AlertStatus(state=AlertState.RESOLVED, last_firing=evaluation), AlertReason.FIRED_AND_RESOLVED
    if history.fired is not None and not _reopens(evaluation, history.fired):
        return None, AlertReason.EPISODE_CLOSED
    return AlertStatus(state=AlertState.FIRING, last_firing=evaluation), AlertReason.FIRED


def _apply_end(alert: AlertStatus | None, evaluation: Evaluation) -> tuple[AlertStatus | None, AlertReason]:
    if alert is None:
        return None, AlertReason.NOT_OPEN
    if alert.last_firing.is_after(evaluation):
        return None, AlertReason.ENDED_BEFORE
    return replace(alert, state=AlertState.RESOLVED), AlertReason.RECOVERED


def _apply_firing_to_open(
    alert: AlertStatus, evaluation: Evaluation, *, has_ended: bool
) -> tuple[AlertStatus, AlertReason]:
    last = alert.last_firing
    # What has ended must not keep the alert open: its end will not come again.
    if has_ended:
        return replace(alert, repeat_count=alert.repeat_count + 1), AlertReason.REPEATED
    if evaluation.is_edited_from(last) and evaluation.severity > last.severity:
        return AlertStatus(state=AlertState.FIRING, last_firing=evaluation), AlertReason.RAISED
    if evaluation.is_edited_from(last) and not evaluation.is_after(last):
        return replace(alert, last_firing=evaluation), AlertReason.UPDATED
    # A later beginning under an older revision leaves revision and severity as they are.
    newest = evaluation if evaluation.is_edited_from(last) else last
    beginning = replace(evaluation, rule_revision=newest.rule_revision, severity=newest.severity)
    last_firing = beginning if evaluation.is_after(last) else last
    return replace(alert, repeat_count=alert.repeat_count + 1, last_firing=last_firing), AlertReason.REPEATED


def _reopens(evaluation: Evaluation, fired: Evaluation) -> bool:
    """Return whether an episode whose alert was resolved opens another: it began afresh, or its severity was raised."""
    return evaluation.is_after(fired) or (evaluation.is_edited_from(fired) and evaluation.severity > fired.severity)


def _newer(known: Evaluation | None, evaluation: Evaluation) -> Evaluation:
    def key(of: Evaluation) -> tuple[int, int, datetime]:
        return of.selection_revision, of.rule_revision, of.time

    return evaluation if known is None or key(evaluation) > key(known) else known
