"""What batches of transitions make of the alerts: tables, and laws with a worker on a store in memory."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.chassis.failures import StoreUnavailable
from services.chassis.kafka import Record, UnreadableRecordError
from services.chassis.telemetry import exposition, telemetry
from services.domain.alert import Command, Ended, Fired, Reason, State
from services.domain.severity import Severity
from services.manager.core.alert import Kind, Notice
from services.manager.core.commands.change import Order, carry_out
from services.manager.core.commands.transitions import Book, Transition, decide
from services.manager.metrics import Metrics
from services.manager.worker.transitions import TransitionWorker
from tests.fakes.clock import FakeClock
from tests.fakes.manager import MemoryClaims, MemoryStore
from tests.unit.manager.stories import NOW, START, WINDOW, subject, word
from tocsin.alerts.v1.alert_pb2 import AlertTransition


def test_a_beginning_and_its_end_in_one_batch_are_both_told() -> None:
    _, outcomes = decide(Book(), [word(), word(window=1), word(Ended, window=2)], NOW)
    assert [outcome.reason for outcome in outcomes] == [Reason.FIRED, Reason.REPEATED, Reason.RECOVERED]
    changes = [outcome.change for outcome in outcomes if outcome.change]
    assert len({change.alert.id for change in changes}) == 1
    assert [change.alert.version for change in changes] == [1, 2, 3]
    assert [change.notices for change in changes] == [(Notice.FIRING,), (), (Notice.RESOLVED,)]
    assert changes[-1].alert.resolve_time == START + 2 * WINDOW
    assert changes[-1].alert.life.repeat_count == 1


def test_an_end_that_came_first_is_told_with_its_beginning() -> None:
    _, (ended, fired) = decide(Book(), [word(Ended, window=1), word()], NOW)
    assert ended.change is None
    assert fired.change is not None
    assert fired.change.alert.life.state is State.RESOLVED
    assert fired.change.alert.resolve_time == START + WINDOW
    assert [entry.kind for entry in fired.change.entries] == [Kind.FIRED, Kind.RESOLVED]
    assert fired.change.notices == (Notice.FIRING, Notice.RESOLVED)


def said(severity: Severity, revision: int, kind: type[Fired] | type[Ended] = Fired, **changed: str) -> Transition:
    return word(kind, about=replace(subject(severity=severity), **changed), revision=revision)  # type: ignore[arg-type]


def test_a_raised_severity_ends_the_alert_untold_and_tells_another_once() -> None:
    low, critical = said(Severity.LOW, 1), said(Severity.CRITICAL, 2)
    ended = said(Severity.CRITICAL, 2, Ended)
    book, outcomes = decide(Book(), [low, critical, critical, low, ended], NOW)
    assert [outcome.reason for outcome in outcomes] == [
        Reason.FIRED,
        Reason.RAISED,
        Reason.DELIVERED_AGAIN,
        Reason.DELIVERED_AGAIN,
        Reason.RECOVERED,
    ]
    old, new, over = (change for outcome in outcomes[1:] for change in outcome.changes)
    assert (old.alert.subject.severity, old.alert.life.state) == (Severity.LOW, State.RESOLVED)
    assert old.alert.superseded_by == new.alert.id
    assert [(entry.kind, entry.comment) for entry in old.entries] == [(Kind.SUPERSEDED, f"by {new.alert.id}")]
    assert (new.alert.subject.severity, new.notices) == (Severity.CRITICAL, (Notice.FIRING,))
    assert (over.alert.id, over.alert.superseded_by, book.open) == (new.alert.id, "", {})


def test_a_lowered_severity_and_new_words_are_taken_over_and_told_to_nobody() -> None:
    book, _ = decide(Book(), [said(Severity.HIGH, 1)], NOW)
    (alert,) = book.open.values()
    taken, _ = carry_out(alert, Order(command=Command.ACKNOWLEDGE, actor="ana"), now=NOW)
    assert taken is not None
    book.open[alert.subject.open_key] = taken.alert
    lowered, reworded = said(Severity.LOW, 2), said(Severity.LOW, 3, description="other")
    book, outcomes = decide(book, [lowered, reworded, lowered], NOW)
    assert [outcome.reason for outcome in outcomes] == [Reason.UPDATED, Reason.UPDATED, Reason.DELIVERED_AGAIN]
    changes = [change for outcome in outcomes for change in outcome.changes]
    assert {(change.alert.id, change.notices) for change in changes} == {(alert.id, ())}
    assert [entry.comment for change in changes for entry in change.entries] == [
        "severity HIGH to LOW",
        "the rule was edited",
    ]
    (after,) = book.open.values()
    assert (after.subject, after.acknowledged_by) == (reworded.subject, "ana")
    assert (after.life.state, after.life.repeat_count) == (State.ACKNOWLEDGED, 0)


def test_each_raise_is_told_once_however_often_the_severity_is_edited() -> None:
    severities = [Severity.LOW, Severity.HIGH, Severity.LOW, Severity.CRITICAL, Severity.HIGH, Severity.CRITICAL]
    words = [said(severity, revision) for revision, severity in enumerate(severities, 1)]
    book, outcomes = decide(Book(), words, NOW)
    told = [change.alert.subject.severity for each in outcomes if (change := each.change) and change.notices]
    assert told == [Severity.LOW, Severity.HIGH, Severity.CRITICAL, Severity.CRITICAL]
    assert len(book.open) == 1
    late, _ = decide(Book(), [words[-1], *words], NOW)
    assert [alert.subject for alert in late.open.values()] == [words[-1].subject]


def test_a_later_episode_brings_its_words_to_an_alert_whose_end_is_missing() -> None:
    later = word(about=replace(subject(severity=Severity.LOW), description="other"), episode=3, revision=2)
    book, (_, outcome) = decide(Book(), [said(Severity.HIGH, 1), later], NOW)
    assert outcome.reason is Reason.REPEATED
    assert [alert.subject for alert in book.open.values()] == [later.subject]


def test_what_was_known_is_left_as_it_was() -> None:
    known = Book()
    decide(known, [word()], NOW)
    assert known == Book()


def test_the_actor_and_the_time_of_a_command_are_kept() -> None:
    book, _ = decide(Book(), [word()], NOW)
    (alert,) = book.open.values()
    taken, reason = carry_out(alert, Order(command=Command.ACKNOWLEDGE, actor="ana", comment="mine"), now=NOW)
    assert reason is Reason.ACKNOWLEDGED
    assert taken is not None
    assert (taken.alert.acknowledged_by, taken.alert.acknowledge_time) == ("ana", NOW)
    assert taken.entries[0].comment == "mine"
    over, reason = carry_out(taken.alert, Order(command=Command.RESOLVE), now=NOW)
    assert reason is Reason.RESOLVED_BY_HAND
    assert over is not None
    assert over.alert.resolve_time == NOW
    assert carry_out(over.alert, Order(command=Command.ACKNOWLEDGE), now=NOW) == (None, Reason.IS_OVER)


def record(transition: Transition, offset: int = 0) -> Record:
    message = AlertTransition(
        id=transition.id,
        state=AlertTransition.FIRING if isinstance(transition.word, Fired) else AlertTransition.RESOLVED,
        fingerprint=transition.subject.fingerprint,
        rule_id=transition.subject.rule_id,
        rule_revision=transition.verdict.revision,
        selection_revision=transition.verdict.selection,
        severity=int(transition.subject.severity),  # type: ignore[arg-type]
        resource=transition.subject.resource,
    )
    message.first_window_time.FromDatetime(transition.verdict.episode)
    message.create_time.FromDatetime(transition.verdict.time)
    return Record("alerts", 0, offset, None, message.SerializeToString(), (), 0)


@dataclass
class World:
    """A worker whose Redis lies and whose store loses commits."""

    store: MemoryStore
    claims: MemoryClaims
    worker: TransitionWorker

    async def hear(self, *words: Transition) -> None:
        """As the consumer does: again and again until it is done."""
        while True:
            try:
                await self.worker.handle([record(each) for each in words])
            except StoreUnavailable:
                continue
            return

    def told(self) -> Counter[tuple[str, Notice]]:
        return Counter((alert.id, notice) for alert, notice, _ in self.store.kept.outbox)


def new_world() -> World:
    store, claims = MemoryStore(), MemoryClaims()
    return World(store, claims, TransitionWorker(store, claims, FakeClock(NOW), Metrics()))


@pytest.fixture
def world() -> Iterator[World]:
    with telemetry("manager", "test", ""):
        yield new_world()


words = st.builds(
    lambda kind, name, episode, window, revision: word(
        kind, about=subject(name), episode=episode, window=episode + window, revision=revision
    ),
    st.sampled_from([Fired, Ended]),
    st.sampled_from("ab"),
    st.integers(0, 2),
    st.integers(0, 2),
    st.integers(1, 2),
)
disturbances = st.sampled_from(["", "", "redis forgets", "redis is stale", "redis is away", "commit is lost"])


@given(st.lists(st.tuples(st.lists(words, min_size=1, max_size=4), disturbances), max_size=6))
@settings(max_examples=200, deadline=None)
def test_whatever_redis_says_and_the_store_loses_the_alerts_are_the_same(
    batches: list[tuple[list[Transition], str]],
) -> None:
    async def scenario() -> None:
        calm, disturbed = new_world(), new_world()
        for batch, disturbance in batches:
            await calm.hear(*batch)
            _disturb(disturbed, disturbance)
            await disturbed.hear(*batch)
        assert disturbed.store.kept.alerts == calm.store.kept.alerts
        assert disturbed.told() == calm.told()
        assert disturbed.store.kept.history == calm.store.kept.history
        assert all(count == 1 for count in calm.told().values())

    asyncio.run(scenario())


def _disturb(world: World, disturbance: str) -> None:
    world.claims.is_away = disturbance == "redis is away"
    if disturbance == "redis forgets":
        world.claims.held.clear()
    if disturbance == "redis is stale":
        world.claims.held |= {subject("a").open_key, subject("b").open_key}
    if disturbance == "commit is lost":
        world.store.fail_commits = 2


@given(st.lists(words, max_size=12))
@settings(deadline=None)
def test_delivering_everything_twice_in_any_batches_equals_once(said: list[Transition]) -> None:
    async def scenario() -> None:
        once, twice = new_world(), new_world()
        for each in said:
            await once.hear(each)
        if said:
            await twice.hear(*said, *said)
            await twice.hear(*said)
        assert twice.store.kept.alerts == once.store.kept.alerts
        assert twice.told() == once.told()

    asyncio.run(scenario())


async def test_a_claim_without_a_commit_swallows_nothing(world: World) -> None:
    world.store.fail_commits = 1
    with pytest.raises(StoreUnavailable):
        await world.worker.handle([record(word())])
    assert world.claims.held
    assert world.store.kept.alerts == {}
    await world.worker.handle([record(word())])
    assert len(world.store.kept.alerts) == 1


async def test_what_is_counted(world: World) -> None:
    await world.hear(word(), word())
    await world.hear(word(window=1))
    shown = exposition()[0].decode()
    assert "alerts_processed_total 2.0" in shown
    assert "alerts_deduplicated_total 1.0" in shown
    assert 'tocsin_manager_transitions_total{reason="delivered_again"} 1.0' in shown


@pytest.mark.parametrize(
    ("spoilt", "reason"),
    [
        pytest.param(b"\xff", "UNREADABLE_TRANSITION", id="no message"),
        pytest.param(AlertTransition(id="x").SerializeToString(), "UNUSABLE_TRANSITION", id="half of one"),
    ],
)
async def test_what_is_no_transition_is_named_and_nothing_is_done(world: World, spoilt: bytes, reason: str) -> None:
    bad = Record("alerts", 0, 7, None, spoilt, (), 0)
    with pytest.raises(UnreadableRecordError) as poison:
        await world.worker.handle([record(word()), bad])
    assert (poison.value.record, poison.value.reason) == (bad, reason)
    assert world.store.kept.alerts == {}
