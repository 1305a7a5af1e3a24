"""The life cycle of an alert: tables for each step, laws for what may come twice and in any order."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.domain.severity import Severity
from services.manager.core.alert_lifecycle import (
    AlertAction,
    AlertReason,
    AlertState,
    AlertStatus,
    Ended,
    EpisodeHistory,
    Evaluation,
    Fired,
    Observation,
    apply_action,
    apply_observation,
)

START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
WINDOW = timedelta(minutes=5)


def evaluation(
    episode: int = 0,
    *,
    selection: int = 1,
    revision: int | None = None,
    second: int = 0,
    severity: Severity = Severity.MEDIUM,
) -> Evaluation:
    return Evaluation(
        episode=START + episode * WINDOW,
        selection_revision=selection,
        rule_revision=revision or selection,
        time=START + timedelta(seconds=second),
        severity=severity,
    )


def alert(last: Evaluation | None = None, state: AlertState = AlertState.FIRING) -> AlertStatus:
    return AlertStatus(state=state, last_firing=last or evaluation())


@pytest.mark.parametrize(
    ("open_alert", "history", "observation", "reason", "state"),
    [
        pytest.param(
            None,
            EpisodeHistory(),
            Fired(evaluation()),
            AlertReason.FIRED,
            AlertState.FIRING,
            id="the first firing opens an alert",
        ),
        pytest.param(
            alert(),
            EpisodeHistory(),
            Fired(evaluation(1)),
            AlertReason.REPEATED,
            AlertState.FIRING,
            id="an open alert only repeats",
        ),
        pytest.param(
            alert(state=AlertState.ACKNOWLEDGED),
            EpisodeHistory(),
            Fired(evaluation(1)),
            AlertReason.REPEATED,
            AlertState.ACKNOWLEDGED,
            id="an acknowledged alert stays acknowledged when it repeats",
        ),
        pytest.param(
            None,
            EpisodeHistory(ended=evaluation(second=9)),
            Fired(evaluation()),
            AlertReason.FIRED_AND_RESOLVED,
            AlertState.RESOLVED,
            id="an end that overtook its beginning is notified with it",
        ),
        pytest.param(
            None,
            EpisodeHistory(fired=evaluation(), ended=evaluation(second=9)),
            Fired(evaluation()),
            AlertReason.LATE,
            None,
            id="a late repeat",
        ),
        pytest.param(
            alert(),
            EpisodeHistory(fired=evaluation(1), ended=evaluation(1)),
            Fired(evaluation(1)),
            AlertReason.LATE,
            None,
            id="a late repeat while another episode is open",
        ),
        pytest.param(
            alert(),
            EpisodeHistory(ended=evaluation(1)),
            Fired(evaluation(1)),
            AlertReason.REPEATED,
            AlertState.FIRING,
            id="an episode that has ended does not keep another one's alert open",
        ),
        pytest.param(
            None,
            EpisodeHistory(fired=evaluation(), ended=evaluation(revision=2, second=9)),
            Fired(evaluation(selection=3, second=20)),
            AlertReason.FIRED,
            AlertState.FIRING,
            id="a rule that counts afresh may fire anew in the same window",
        ),
        pytest.param(
            None,
            EpisodeHistory(fired=evaluation(selection=0, revision=3)),
            Fired(evaluation(selection=2, revision=3)),
            AlertReason.EPISODE_CLOSED,
            None,
            id="an evaluator of the former release that leaves out its selection revision does not count afresh",
        ),
        pytest.param(
            alert(evaluation(selection=2, revision=3)),
            EpisodeHistory(),
            Ended(evaluation(selection=0, revision=3, second=9)),
            AlertReason.RECOVERED,
            AlertState.RESOLVED,
            id="and its end of an alert counts",
        ),
        pytest.param(
            alert(),
            EpisodeHistory(fired=evaluation()),
            Fired(evaluation(revision=2, severity=Severity.CRITICAL)),
            AlertReason.RAISED,
            AlertState.FIRING,
            id="a raised severity makes another alert",
        ),
        pytest.param(
            alert(state=AlertState.ACKNOWLEDGED),
            EpisodeHistory(fired=evaluation()),
            Fired(evaluation(revision=2, severity=Severity.CRITICAL)),
            AlertReason.RAISED,
            AlertState.FIRING,
            id="which nobody has acknowledged yet",
        ),
        pytest.param(
            alert(state=AlertState.ACKNOWLEDGED),
            EpisodeHistory(fired=evaluation()),
            Fired(evaluation(revision=2, severity=Severity.LOW)),
            AlertReason.UPDATED,
            AlertState.ACKNOWLEDGED,
            id="a lowered one keeps the alert and its acknowledgement",
        ),
        pytest.param(
            alert(),
            EpisodeHistory(fired=evaluation()),
            Fired(evaluation(revision=2)),
            AlertReason.UPDATED,
            AlertState.FIRING,
            id="so does an edited text",
        ),
        pytest.param(
            alert(evaluation(revision=3, severity=Severity.LOW)),
            EpisodeHistory(),
            Fired(evaluation(revision=2, severity=Severity.CRITICAL)),
            AlertReason.REPEATED,
            AlertState.FIRING,
            id="an older revision changes nothing",
        ),
        pytest.param(
            alert(evaluation(1, revision=2)),
            EpisodeHistory(),
            Fired(evaluation(0, revision=3, severity=Severity.CRITICAL)),
            AlertReason.REPEATED,
            AlertState.FIRING,
            id="nor does an episode before the open one",
        ),
        pytest.param(
            alert(),
            EpisodeHistory(),
            Fired(evaluation(1, revision=2, severity=Severity.CRITICAL)),
            AlertReason.RAISED,
            AlertState.FIRING,
            id="a later episode may be more severe than the open alert, whose end is missing",
        ),
        pytest.param(
            None,
            EpisodeHistory(fired=evaluation()),
            Fired(evaluation(revision=2, severity=Severity.CRITICAL)),
            AlertReason.FIRED,
            AlertState.FIRING,
            id="what was resolved by hand fires again when its severity is raised",
        ),
        pytest.param(
            None,
            EpisodeHistory(fired=evaluation()),
            Fired(evaluation(revision=2, severity=Severity.LOW)),
            AlertReason.EPISODE_CLOSED,
            None,
            id="and stays silent when only its text was edited",
        ),
        pytest.param(
            None,
            EpisodeHistory(fired=evaluation(), ended=evaluation(second=9)),
            Fired(evaluation(revision=2, second=20, severity=Severity.CRITICAL)),
            AlertReason.LATE,
            None,
            id="an ended episode does not fire when its severity is raised",
        ),
        pytest.param(
            None,
            EpisodeHistory(fired=evaluation()),
            Fired(evaluation(second=60)),
            AlertReason.EPISODE_CLOSED,
            None,
            id="what was resolved by hand stays silent for the rest of its episode",
        ),
        pytest.param(
            alert(),
            EpisodeHistory(),
            Ended(evaluation(second=60)),
            AlertReason.RECOVERED,
            AlertState.RESOLVED,
            id="the end resolves",
        ),
        pytest.param(
            alert(evaluation(1)),
            EpisodeHistory(),
            Ended(evaluation(2)),
            AlertReason.RECOVERED,
            AlertState.RESOLVED,
            id="a later end too",
        ),
        pytest.param(
            alert(evaluation(1)),
            EpisodeHistory(),
            Ended(evaluation(0)),
            AlertReason.ENDED_BEFORE,
            None,
            id="an earlier end does not",
        ),
        pytest.param(None, EpisodeHistory(), Ended(evaluation()), AlertReason.NOT_OPEN, None, id="nothing is open"),
    ],
)
def test_what_an_observation_makes(
    open_alert: AlertStatus | None,
    history: EpisodeHistory,
    observation: Observation,
    reason: AlertReason,
    state: AlertState | None,
) -> None:
    status, because = apply_observation(open_alert, history, observation)
    assert because is reason
    assert (status.state if status else None) is state


def test_a_later_beginning_under_an_older_revision_leaves_revision_and_severity_as_they_are() -> None:
    known = alert(evaluation(revision=3, severity=Severity.HIGH))
    older = Fired(evaluation(1, revision=2, severity=Severity.LOW))
    status, reason = apply_observation(known, EpisodeHistory(), older)
    assert reason is AlertReason.REPEATED
    assert status is not None
    assert status.last_firing == evaluation(1, revision=3, severity=Severity.HIGH)


@pytest.mark.parametrize(
    ("before", "action", "after", "reason"),
    [
        (AlertState.FIRING, AlertAction.ACKNOWLEDGE, AlertState.ACKNOWLEDGED, AlertReason.ACKNOWLEDGED),
        (AlertState.ACKNOWLEDGED, AlertAction.ACKNOWLEDGE, AlertState.ACKNOWLEDGED, AlertReason.ALREADY_ACKNOWLEDGED),
        (AlertState.RESOLVED, AlertAction.ACKNOWLEDGE, AlertState.RESOLVED, AlertReason.NOT_ACKNOWLEDGEABLE),
        (AlertState.FIRING, AlertAction.RESOLVE, AlertState.RESOLVED, AlertReason.RESOLVED_BY_HAND),
        (AlertState.ACKNOWLEDGED, AlertAction.RESOLVE, AlertState.RESOLVED, AlertReason.RESOLVED_BY_HAND),
        (AlertState.RESOLVED, AlertAction.RESOLVE, AlertState.RESOLVED, AlertReason.ALREADY_RESOLVED),
    ],
)
def test_what_an_action_makes(before: AlertState, action: AlertAction, after: AlertState, reason: AlertReason) -> None:
    status, because = apply_action(alert(state=before), action)
    assert (status.state, because) == (after, reason)


@dataclass
class World:
    """One group, stored as the manager stores it."""

    open_alert: AlertStatus | None = None
    histories: dict[datetime, EpisodeHistory] = field(default_factory=dict)
    processed: set[Observation] = field(default_factory=set)
    reasons: list[AlertReason] = field(default_factory=list)
    alerted: set[datetime] = field(default_factory=set)

    def apply(self, observation: Observation) -> None:
        if observation in self.processed:
            return
        self.processed.add(observation)
        episode = observation.evaluation.episode
        history = self.histories.get(episode, EpisodeHistory())
        status, reason = apply_observation(self.open_alert, history, observation)
        self.histories[episode] = history.including(observation)
        self.reasons.append(reason)
        if reason in {
            AlertReason.FIRED,
            AlertReason.FIRED_AND_RESOLVED,
            AlertReason.REPEATED,
            AlertReason.RAISED,
            AlertReason.UPDATED,
        }:
            self.alerted.add(episode)
        if status is not None:
            self.open_alert = status if status.is_open else None

    def apply_all(self, observations: list[Observation]) -> "World":
        for observation in observations:
            self.apply(observation)
        return self


@st.composite
def episodes(draw: st.DrawFn) -> list[Observation]:
    """Draw what one sound evaluator observes: episodes in turn, each but perhaps the last with its end."""
    observations: list[Observation] = []
    second, episode, revision, severity = 0, 0, 1, Severity.MEDIUM
    count = draw(st.integers(1, 4))
    for index in range(count):
        episode += draw(st.integers(1, 3))
        for _ in range(draw(st.integers(1, 3))):
            second += 10
            if draw(st.booleans()):
                revision, severity = revision + 1, draw(st.sampled_from(Severity))
            observations.append(Fired(evaluation(episode, revision=revision, second=second, severity=severity)))
        if index < count - 1 or draw(st.booleans()):
            second += 10
            observations.append(Ended(evaluation(episode, revision=revision, second=second, severity=severity)))
    return observations


def is_open_in_the_end(observations: list[Observation]) -> bool:
    return isinstance(observations[-1], Fired)


@given(episodes())
def test_delivering_everything_twice_changes_nothing(observations: list[Observation]) -> None:
    assert World().apply_all(observations + observations) == World().apply_all(observations)


@given(episodes(), st.data())
def test_redelivery_from_any_point_changes_nothing(observations: list[Observation], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(observations)))
    back = data.draw(st.integers(0, at))
    assert World().apply_all(observations[:at] + observations[back:]) == World().apply_all(observations)


@given(episodes())
def test_in_order_each_episode_is_one_alert(observations: list[Observation]) -> None:
    world = World().apply_all(observations)
    begun = {each.evaluation.episode for each in observations}
    assert world.reasons.count(AlertReason.FIRED) == len(begun)
    assert world.reasons.count(AlertReason.RECOVERED) == sum(isinstance(each, Ended) for each in observations)


@given(episodes().flatmap(lambda observations: st.tuples(st.just(observations), st.permutations(observations))))
def test_in_any_order_the_end_is_right_and_no_episode_is_lost(
    both: tuple[list[Observation], list[Observation]],
) -> None:
    observations, mixed = both
    world = World().apply_all(mixed)
    assert (world.open_alert is not None) == is_open_in_the_end(observations)
    assert world.alerted == {each.evaluation.episode for each in observations}
