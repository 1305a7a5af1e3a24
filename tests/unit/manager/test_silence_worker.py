"""Who is notified of what, when silences come and go: managers on one store in memory."""

import asyncio
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.chassis.failures import StoreUnavailable
from services.chassis.telemetry import exposition, telemetry
from services.manager.adapters.tenant_caches import CatalogCache, SilenceCache
from services.manager.core.alert import AlertHistoryKind
from services.manager.core.alert_changes import AlertCommand, apply_command
from services.manager.core.alert_lifecycle import AlertAction, Ended, Fired
from services.manager.core.incident_batch import IncidentSettings
from services.manager.core.silence import Silence, SilenceState, expire
from services.manager.core.transitions import decide
from services.manager.metrics import Metrics
from services.manager.worker.incidents import IncidentWorker
from services.manager.worker.silences import SilenceWorker
from tests.fakes.clock import FakeClock
from tests.fakes.incidents import FixedRouting
from tests.fakes.manager import MemoryStore
from tests.fakes.manager_readers import MemoryCatalogReader, MemoryMatchedAlertReader, MemorySilenceReader
from tests.fakes.on_call import FixedOnCall
from tests.fakes.silences import HOUR, a_silence, recurring
from tests.fakes.transitions import NOW, a_transition


class Manager:
    """One instance: its own view of the silences, and its own workers."""

    def __init__(self, store: MemoryStore, clock: FakeClock) -> None:
        self.store = store
        self.clock = clock
        self.silences = SilenceCache(MemorySilenceReader(store), clock)
        self.worker = SilenceWorker(store, self.silences, MemoryMatchedAlertReader(store), clock, Metrics())
        self.incidents = IncidentWorker(
            store,
            CatalogCache(MemoryCatalogReader(store)),
            FixedRouting(),
            FixedOnCall(),
            clock,
            Metrics(),
            settings=IncidentSettings(),
        )

    async def turn(self) -> timedelta:
        """Let both workers look once."""
        pause = await self.worker.turn()
        await self.incidents.turn()
        return pause

    async def observe(self, kind: type[Fired] | type[Ended], window: int = 0) -> None:
        """Process a transition with what this instance knows of the silences."""
        transition = a_transition(kind, window=window)
        async with self.store.transaction() as transaction:
            context = await transaction.alerts.load_for_update([transition], expected_new=())
            processed = await transaction.transitions.insert([transition])
            silencing = self.silences.index(self.clock.now()).silencing
            _, (outcome,) = decide(replace(context, processed=processed), [transition], self.clock.now(), silencing)
            await transaction.alerts.save([(change, ()) for change in outcome.changes])

    async def act(self, action: AlertAction) -> None:
        async with self.store.transaction() as transaction:
            for alert in self.store.tables.alerts.values():
                change, _ = apply_command(alert, AlertCommand(action=action), now=self.clock.now())
                await transaction.alerts.save([(change, ())] if change else [])

    async def put(self, silence: Silence) -> None:
        async with self.store.transaction() as transaction:
            await transaction.silences.upsert(silence, await transaction.silences.take_revision())

    async def notified(self) -> list[str]:
        await self.incidents.turn()
        return [notification.kind.value for notification, _ in self.store.tables.outbox]


@pytest.fixture
def manager() -> Iterator[Manager]:
    with telemetry("manager", "test", ""):
        yield Manager(MemoryStore(), FakeClock(NOW))


async def test_people_are_notified_when_a_silence_ends_and_the_alert_still_fires(manager: Manager) -> None:
    await manager.put(a_silence())
    assert await manager.turn() == timedelta(seconds=1)
    await manager.observe(Fired)
    await manager.turn()
    assert await manager.notified() == []
    manager.clock.advance(HOUR - timedelta(milliseconds=300))
    # It looks at the border, not a second later.
    assert await manager.turn() == timedelta(milliseconds=300)
    manager.clock.advance(timedelta(milliseconds=300))
    await manager.turn()
    await manager.turn()
    await manager.observe(Ended, 1)
    assert await manager.notified() == ["FIRING", "RESOLVED"]
    shown = exposition()[0].decode()
    assert 'tocsin_manager_silence_alerts_total{outcome="released"} 1.0' in shown


async def test_a_silence_that_is_ended_by_hand_lets_people_know(manager: Manager) -> None:
    await manager.put(a_silence())
    await manager.turn()
    await manager.observe(Fired)
    await manager.put(expire(a_silence(), now=NOW))
    await manager.turn()
    assert await manager.notified() == ["FIRING"]
    (alert,) = manager.store.tables.alerts.values()
    assert alert.silenced_by == ()


async def test_an_open_alert_is_marked_when_a_silence_begins(manager: Manager) -> None:
    await manager.observe(Fired)
    await manager.put(a_silence(start_time=NOW + HOUR / 2))
    await manager.turn()
    assert next(iter(manager.store.tables.alerts.values())).silenced_by == ()
    assert await manager.notified() == ["FIRING"]
    manager.clock.advance(HOUR / 2)
    await manager.turn()
    assert next(iter(manager.store.tables.alerts.values())).silenced_by == ("s",)
    assert [entry.kind for entry in manager.store.tables.history.values()] == [
        AlertHistoryKind.FIRED,
        AlertHistoryKind.SILENCED,
    ]
    await manager.act(AlertAction.ACKNOWLEDGE)
    await manager.observe(Ended, 1)
    # Somebody has been notified of it, and of all that follows.
    assert await manager.notified() == ["FIRING", "ACKNOWLEDGED", "RESOLVED"]


async def test_of_an_alert_that_was_acknowledged_while_it_was_silenced_nobody_is_notified(manager: Manager) -> None:
    await manager.put(a_silence())
    await manager.turn()
    await manager.observe(Fired)
    await manager.turn()
    await manager.act(AlertAction.ACKNOWLEDGE)
    await manager.put(expire(a_silence(), now=NOW))
    await manager.turn()
    assert await manager.notified() == []
    await manager.observe(Ended, 1)
    assert await manager.notified() == []


async def test_in_the_gap_of_a_recurrence_people_are_notified(manager: Manager) -> None:
    recurrence = recurring("FREQ=DAILY;COUNT=2")
    await manager.put(a_silence(recurrence=recurrence, end_time=recurrence.end))
    await manager.turn()
    await manager.observe(Fired)
    for hours, notified in ((0.5, 0), (0.5, 1), (23.0, 1), (1.0, 1)):
        manager.clock.advance(hours * HOUR)
        await manager.turn()
        assert len(await manager.notified()) == notified
    # Each time that it began again is an entry.
    kinds = Counter(entry.kind for entry in manager.store.tables.history.values())
    assert kinds[AlertHistoryKind.SILENCED] == 2


async def test_a_silence_of_named_alerts_ends_with_them(manager: Manager) -> None:
    await manager.observe(Fired)
    await manager.turn()
    (alert_id,) = manager.store.tables.alerts
    await manager.put(a_silence("", alert_ids=(alert_id,), end_time=None))
    await manager.turn()
    assert manager.store.tables.alerts[alert_id].silenced_by == ("s",)
    assert manager.store.tables.silences["s"][0].state(NOW) is SilenceState.ACTIVE
    await manager.observe(Ended, 1)
    await manager.turn()
    assert manager.store.tables.silences["s"][0].state(NOW) is SilenceState.EXPIRED
    assert manager.silences.index(NOW).silencing(alert_id, {}) == ()
    assert not manager.silences.names_alerts()
    assert await manager.notified() == ["FIRING", "RESOLVED"]


async def test_what_another_transaction_has_locked_is_looked_at_again(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    await manager.observe(Fired)
    await manager.put(a_silence())
    update = manager.worker._update
    found: list[int] = []

    async def locked_once(alert_ids: list[str], index: object) -> bool:
        found.append(len(alert_ids))
        return await update(alert_ids if len(found) > 1 else [], index) and len(found) > 1  # type: ignore[arg-type]

    monkeypatch.setattr(manager.worker, "_update", locked_once)
    await manager.turn()
    await manager.turn()
    await manager.turn()
    assert found == [1, 1]
    assert next(iter(manager.store.tables.alerts.values())).silenced_by == ("s",)


async def test_what_could_not_be_written_is_written_later(manager: Manager) -> None:
    await manager.observe(Fired)
    await manager.put(a_silence())
    manager.store.fail_commits = 1
    with pytest.raises(StoreUnavailable):
        await manager.turn()
    await manager.turn()
    assert next(iter(manager.store.tables.alerts.values())).silenced_by == ("s",)


_STEPS = st.lists(
    st.sampled_from(["turn 0", "turn 1", "fire 0", "fire 1", "end 0", "ack 0", "silence 1", "expire 0", "hour 0"]),
    max_size=14,
)


@settings(deadline=None, max_examples=60)
@given(_STEPS)
def test_law_receivers_know_of_an_alert_as_long_as_it_fires_and_no_silence_holds(steps: list[str]) -> None:
    asyncio.run(_run(steps))


async def _run(steps: list[str]) -> None:
    with telemetry("manager", "test", ""):
        store, clock = MemoryStore(), FakeClock(NOW)
        managers = [Manager(store, clock), Manager(store, clock)]
        for place, step in enumerate(steps):
            name, number = step.split()
            await _step(managers[int(number)], name, place)
        for each in managers:
            await each.turn()
        clock.advance(9 * HOUR)
        for _ in range(2):
            for each in managers:
                await each.turn()
        kinds: dict[str, str] = {}
        for notification, _ in store.tables.outbox:
            kinds[notification.incident.id] = kinds.get(notification.incident.id, "") + notification.kind.value[0]
        for incident, _ in store.tables.incidents.incidents.values():
            notified = kinds.get(incident.id, "")
            # It fires and it ends as often.
            assert re.fullmatch("(F[AU]*R)*(F[AU]*)?", notified)
            still_open = [store.tables.alerts[alert_id] for alert_id in incident.alerts]
            still_open = [alert for alert in still_open if alert.is_open]
            is_known = bool(notified) and notified[-1] != "R"
            assert is_known <= bool(still_open)
            if still_open and incident.state != "ACKNOWLEDGED":
                assert is_known


async def _step(manager: Manager, name: str, place: int) -> None:
    match name:
        case "turn":
            await manager.turn()
        case "fire" | "end":
            await manager.observe(Fired if name == "fire" else Ended, place)
        case "ack":
            await manager.act(AlertAction.ACKNOWLEDGE)
        case "silence":
            await manager.put(a_silence(id=str(place), start_time=manager.clock.now(), end_time=NOW + 8 * HOUR))
        case "expire":
            for silence, _ in list(manager.store.tables.silences.values()):
                await manager.put(expire(silence, now=manager.clock.now()))
        case _:
            manager.clock.advance(HOUR / 2)
