"""The alert's life: tables for each step, laws for what may come twice and in any order."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.domain.alert import Command, Ended, Fired, Life, Memory, Reason, State, Verdict, obey, observe, remember
from services.domain.severity import Severity

START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
WINDOW = timedelta(minutes=5)


def verdict(
    episode: int = 0,
    *,
    selection: int = 1,
    revision: int | None = None,
    second: int = 0,
    severity: Severity = Severity.MEDIUM,
) -> Verdict:
    return Verdict(
        episode=START + episode * WINDOW,
        selection=selection,
        revision=revision or selection,
        time=START + timedelta(seconds=second),
        severity=severity,
    )


def alert(last: Verdict | None = None, state: State = State.FIRING) -> Life:
    return Life(state=state, last_firing=last or verdict())


@pytest.mark.parametrize(
    ("memory", "word", "reason", "state"),
    [
        pytest.param(Memory(), Fired(verdict()), Reason.FIRED, State.FIRING, id="the first word opens an alert"),
        pytest.param(
            Memory(alert=alert()), Fired(verdict(1)), Reason.REPEATED, State.FIRING, id="an open alert only repeats"
        ),
        pytest.param(
            Memory(alert=alert(state=State.ACKNOWLEDGED)),
            Fired(verdict(1)),
            Reason.REPEATED,
            State.ACKNOWLEDGED,
            id="an acknowledged alert stays acknowledged when it repeats",
        ),
        pytest.param(
            Memory(ended=verdict(second=9)),
            Fired(verdict()),
            Reason.FIRED_AND_OVER,
            State.RESOLVED,
            id="an end that overtook its beginning is told with it",
        ),
        pytest.param(
            Memory(fired=verdict(), ended=verdict(second=9)), Fired(verdict()), Reason.LATE, None, id="a late repeat"
        ),
        pytest.param(
            Memory(alert=alert(), fired=verdict(1), ended=verdict(1)),
            Fired(verdict(1)),
            Reason.LATE,
            None,
            id="a late repeat while another episode is open",
        ),
        pytest.param(
            Memory(alert=alert(), ended=verdict(1)),
            Fired(verdict(1)),
            Reason.REPEATED,
            State.FIRING,
            id="an episode that is over does not keep another one's alert open",
        ),
        pytest.param(
            Memory(fired=verdict(), ended=verdict(revision=2, second=9)),
            Fired(verdict(selection=3, second=20)),
            Reason.FIRED,
            State.FIRING,
            id="a rule that counts afresh may fire anew in the same window",
        ),
        pytest.param(
            Memory(fired=verdict(selection=0, revision=3)),
            Fired(verdict(selection=2, revision=3)),
            Reason.EPISODE_CLOSED,
            None,
            id="that an evaluator of the former release did not say since when it counts is no counting afresh",
        ),
        pytest.param(
            Memory(alert=alert(verdict(selection=2, revision=3))),
            Ended(verdict(selection=0, revision=3, second=9)),
            Reason.RECOVERED,
            State.RESOLVED,
            id="and its end of an alert counts",
        ),
        pytest.param(
            Memory(alert=alert(), fired=verdict()),
            Fired(verdict(revision=2, severity=Severity.CRITICAL)),
            Reason.RAISED,
            State.FIRING,
            id="a raised severity makes another alert",
        ),
        pytest.param(
            Memory(alert=alert(state=State.ACKNOWLEDGED), fired=verdict()),
            Fired(verdict(revision=2, severity=Severity.CRITICAL)),
            Reason.RAISED,
            State.FIRING,
            id="which nobody has acknowledged yet",
        ),
        pytest.param(
            Memory(alert=alert(state=State.ACKNOWLEDGED), fired=verdict()),
            Fired(verdict(revision=2, severity=Severity.LOW)),
            Reason.UPDATED,
            State.ACKNOWLEDGED,
            id="a lowered one keeps the alert and its acknowledgement",
        ),
        pytest.param(
            Memory(alert=alert(), fired=verdict()),
            Fired(verdict(revision=2)),
            Reason.UPDATED,
            State.FIRING,
            id="other words too",
        ),
        pytest.param(
            Memory(alert=alert(verdict(revision=3, severity=Severity.LOW))),
            Fired(verdict(revision=2, severity=Severity.CRITICAL)),
            Reason.REPEATED,
            State.FIRING,
            id="older words change nothing",
        ),
        pytest.param(
            Memory(alert=alert(verdict(1, revision=2))),
            Fired(verdict(0, revision=3, severity=Severity.CRITICAL)),
            Reason.REPEATED,
            State.FIRING,
            id="nor do those about an episode before the open one",
        ),
        pytest.param(
            Memory(alert=alert()),
            Fired(verdict(1, revision=2, severity=Severity.CRITICAL)),
            Reason.RAISED,
            State.FIRING,
            id="a later episode may be graver than the open alert, whose end is missing",
        ),
        pytest.param(
            Memory(fired=verdict()),
            Fired(verdict(revision=2, severity=Severity.CRITICAL)),
            Reason.FIRED,
            State.FIRING,
            id="what was resolved by hand is told anew when it is graver now",
        ),
        pytest.param(
            Memory(fired=verdict()),
            Fired(verdict(revision=2, severity=Severity.LOW)),
            Reason.EPISODE_CLOSED,
            None,
            id="and stays quiet when only its words were edited",
        ),
        pytest.param(
            Memory(fired=verdict(), ended=verdict(second=9)),
            Fired(verdict(revision=2, second=20, severity=Severity.CRITICAL)),
            Reason.LATE,
            None,
            id="what is over is not told in graver words",
        ),
        pytest.param(
            Memory(fired=verdict()),
            Fired(verdict(second=60)),
            Reason.EPISODE_CLOSED,
            None,
            id="what was resolved by hand stays quiet for the rest of its episode",
        ),
        pytest.param(
            Memory(alert=alert()), Ended(verdict(second=60)), Reason.RECOVERED, State.RESOLVED, id="the end resolves"
        ),
        pytest.param(
            Memory(alert=alert(verdict(1))), Ended(verdict(2)), Reason.RECOVERED, State.RESOLVED, id="a later end too"
        ),
        pytest.param(
            Memory(alert=alert(verdict(1))), Ended(verdict(0)), Reason.ENDED_BEFORE, None, id="an earlier end does not"
        ),
        pytest.param(Memory(), Ended(verdict()), Reason.NOT_OPEN, None, id="nothing is open"),
    ],
)
def test_what_the_evaluators_word_makes(
    memory: Memory, word: Fired | Ended, reason: Reason, state: State | None
) -> None:
    life, because = observe(memory, word)
    assert because is reason
    assert (life.state if life else None) is state


def test_a_later_beginning_in_older_words_leaves_the_words_as_they_are() -> None:
    known = alert(verdict(revision=3, severity=Severity.HIGH))
    life, reason = observe(Memory(alert=known), Fired(verdict(1, revision=2, severity=Severity.LOW)))
    assert reason is Reason.REPEATED
    assert life is not None
    assert life.last_firing == verdict(1, revision=3, severity=Severity.HIGH)


@pytest.mark.parametrize(
    ("before", "command", "after", "reason"),
    [
        (State.FIRING, Command.ACKNOWLEDGE, State.ACKNOWLEDGED, Reason.ACKNOWLEDGED),
        (State.ACKNOWLEDGED, Command.ACKNOWLEDGE, State.ACKNOWLEDGED, Reason.ALREADY_ACKNOWLEDGED),
        (State.RESOLVED, Command.ACKNOWLEDGE, State.RESOLVED, Reason.IS_OVER),
        (State.FIRING, Command.RESOLVE, State.RESOLVED, Reason.RESOLVED_BY_HAND),
        (State.ACKNOWLEDGED, Command.RESOLVE, State.RESOLVED, Reason.RESOLVED_BY_HAND),
        (State.RESOLVED, Command.RESOLVE, State.RESOLVED, Reason.ALREADY_RESOLVED),
    ],
)
def test_what_a_command_makes(before: State, command: Command, after: State, reason: Reason) -> None:
    life, because = obey(alert(state=before), command)
    assert (life.state, because) == (after, reason)


@dataclass
class World:
    """One fingerprint, kept as the manager keeps it."""

    open: Life | None = None
    past: dict[datetime, Memory] = field(default_factory=dict)
    done: set[Fired | Ended] = field(default_factory=set)
    told: list[Reason] = field(default_factory=list)
    carried: set[datetime] = field(default_factory=set)

    def hear(self, word: Fired | Ended) -> None:
        if word in self.done:
            return
        self.done.add(word)
        memory = replace(self.past.get(word.verdict.episode, Memory()), alert=self.open)
        life, reason = observe(memory, word)
        self.past[word.verdict.episode] = remember(memory, word)
        self.told.append(reason)
        if reason in {Reason.FIRED, Reason.FIRED_AND_OVER, Reason.REPEATED, Reason.RAISED, Reason.UPDATED}:
            self.carried.add(word.verdict.episode)
        if life is not None:
            self.open = life if life.is_open else None

    def hear_all(self, words: list[Fired | Ended]) -> "World":
        for word in words:
            self.hear(word)
        return self


@st.composite
def stories(draw: st.DrawFn) -> list[Fired | Ended]:
    """What one sound evaluator says: episodes one after the other, each but perhaps the last with its end."""
    words: list[Fired | Ended] = []
    second, episode, revision, severity = 0, 0, 1, Severity.MEDIUM
    count = draw(st.integers(1, 4))
    for index in range(count):
        episode += draw(st.integers(1, 3))
        for _ in range(draw(st.integers(1, 3))):
            second += 10
            if draw(st.booleans()):
                revision, severity = revision + 1, draw(st.sampled_from(Severity))
            words.append(Fired(verdict(episode, revision=revision, second=second, severity=severity)))
        if index < count - 1 or draw(st.booleans()):
            second += 10
            words.append(Ended(verdict(episode, revision=revision, second=second, severity=severity)))
    return words


def is_open_in_the_end(words: list[Fired | Ended]) -> bool:
    return isinstance(words[-1], Fired)


@given(stories())
def test_delivering_everything_twice_changes_nothing(words: list[Fired | Ended]) -> None:
    assert World().hear_all(words + words) == World().hear_all(words)


@given(stories(), st.data())
def test_going_back_at_any_point_changes_nothing(words: list[Fired | Ended], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(words)))
    back = data.draw(st.integers(0, at))
    assert World().hear_all(words[:at] + words[back:]) == World().hear_all(words)


@given(stories())
def test_in_order_each_episode_is_one_alert(words: list[Fired | Ended]) -> None:
    world = World().hear_all(words)
    episodes = {word.verdict.episode for word in words}
    assert world.told.count(Reason.FIRED) == len(episodes)
    assert world.told.count(Reason.RECOVERED) == sum(isinstance(word, Ended) for word in words)


@given(stories().flatmap(lambda words: st.tuples(st.just(words), st.permutations(words))))
def test_in_any_order_the_end_is_right_and_no_episode_is_swallowed(
    both: tuple[list[Fired | Ended], list[Fired | Ended]],
) -> None:
    words, mixed = both
    world = World().hear_all(mixed)
    assert (world.open is not None) == is_open_in_the_end(words)
    assert world.carried == {word.verdict.episode for word in words}
