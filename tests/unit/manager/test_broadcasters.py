"""What watchers of rules and alerts are sent when something goes wrong in between."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta

import pytest

from services.chassis.backoff import Backoff
from services.chassis.failures import Overloaded, ShuttingDown, StoreUnavailable
from services.chassis.loops import Loop
from services.manager.adapters import broadcasters
from services.manager.adapters.broadcasters import RULE_REFRESH_INTERVAL, AlertBroadcaster, RuleBroadcaster
from services.manager.core.alert import Alert, AlertFilter
from services.manager.core.alert_lifecycle import AlertState, AlertStatus
from services.manager.ports.feeds import AlertSubscription
from tests.fakes.manager import MemoryStore
from tests.fakes.manager_readers import MemoryAlertReader, MemoryRuleReader
from tests.fakes.transitions import NOW, START, a_subject, a_transition
from tocsin.alerts.v1.alert_service_pb2 import WatchAlertsResponse


class Flaky:
    """A store whose readers fail as often as a test asks."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.failures = 0
        self.reads = 0

    def ask(self) -> None:
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("away")


class FlakyAlerts(MemoryAlertReader):
    def __init__(self, flaky: Flaky) -> None:
        super().__init__(flaky.store)
        self._flaky = flaky

    async def list_by_id(self, alert_ids: Sequence[str]) -> Sequence[Alert]:
        self._flaky.ask()
        return await super().list_by_id(alert_ids)

    async def list_open(self) -> Sequence[Alert]:
        self._flaky.ask()
        self._flaky.reads += 1
        return await super().list_open()


class FlakyRules(MemoryRuleReader):
    def __init__(self, flaky: Flaky) -> None:
        super().__init__(flaky.store)
        self._flaky = flaky

    async def version(self) -> str:
        self._flaky.ask()
        return await super().version()


def alert(name: str) -> Alert:
    status = AlertStatus(state=AlertState.FIRING, last_firing=a_transition().evaluation)
    return Alert(id=name, subject=a_subject(name), status=status, fire_time=START, update_time=NOW)


@pytest.fixture
def flaky() -> Flaky:
    found = Flaky()
    found.store.tables.alerts = {name: alert(name) for name in "abc"}
    return found


async def ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def taken(subscription: AlertSubscription) -> list[tuple[str, int]]:
    found = []
    while (raw := subscription.next()) is not None:
        sent = WatchAlertsResponse.FromString(raw).alert
        found.append((sent.id, sent.repeat_count))
    return found


def change(flaky: Flaky, name: str, repeats: int, state: AlertState = AlertState.FIRING) -> None:
    status = AlertStatus(state=state, last_firing=a_transition().evaluation, repeat_count=repeats)
    flaky.store.tables.alerts[name] = replace(alert(name), status=status, version=1 + repeats)


@asynccontextmanager
async def running_broadcaster(flaky: Flaky, max_resolved: int = 10) -> AsyncIterator[AlertBroadcaster]:
    broadcaster = AlertBroadcaster(FlakyAlerts(flaky), max_resolved=max_resolved)
    loop = Loop(broadcaster.turn, name="alerts", backoff=Backoff(max_delay=timedelta(milliseconds=1)))
    running = asyncio.create_task(loop.run())
    yield broadcaster
    await ended(running)


async def test_a_watcher_is_sent_the_open_alerts_and_each_change(flaky: Flaky) -> None:
    async with running_broadcaster(flaky) as broadcaster:
        broadcaster.mark_changed("a")
        async with broadcaster.subscribe(AlertFilter(resource="b")) as subscription:
            assert broadcaster.watchers == 1
            assert taken(subscription) == [("b", 0)]
            change(flaky, "b", 1)
            broadcaster.mark_changed("a,b")
            await subscription.wait()
            assert taken(subscription) == [("b", 1)]
        assert broadcaster.watchers == 0


async def test_the_open_alerts_are_read_and_encoded_once_for_all_watchers(flaky: Flaky) -> None:
    async with running_broadcaster(flaky) as broadcaster, AsyncExitStack() as stack:
        many = [await stack.enter_async_context(broadcaster.subscribe(AlertFilter())) for _ in range(200)]
        assert flaky.reads == 1
        firsts = [subscription.next() for subscription in many]
        assert len({id(first) for first in firsts}) == 1
    async with running_broadcaster(flaky) as broadcaster, broadcaster.subscribe(AlertFilter()):
        assert flaky.reads == 2


async def test_changes_that_were_missed_or_could_not_be_read_are_found_by_reading_all(flaky: Flaky) -> None:
    async with running_broadcaster(flaky) as broadcaster, broadcaster.subscribe(AlertFilter()) as subscription:
        taken(subscription)
        change(flaky, "a", 1)
        flaky.failures = 2
        broadcaster.mark_changed("a")
        await subscription.wait()
        assert taken(subscription) == [("a", 1)]
        change(flaky, "b", 2, AlertState.RESOLVED)
        del flaky.store.tables.alerts["c"]
        change(flaky, "d", 3)
        broadcaster.mark_stale()
        await subscription.wait()
        assert taken(subscription) == [("d", 3), ("b", 2)]


async def test_a_watch_is_refused_when_the_open_alerts_cannot_be_read(flaky: Flaky) -> None:
    broadcaster = AlertBroadcaster(FlakyAlerts(flaky))
    flaky.failures = 1
    with pytest.raises(StoreUnavailable):
        async with broadcaster.subscribe(AlertFilter()):
            pass
    async with broadcaster.subscribe(AlertFilter()) as subscription:
        assert len(taken(subscription)) == 3


async def test_after_too_many_changes_at_once_all_open_alerts_are_read(
    flaky: Flaky, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broadcasters, "_MAX_CHANGED", 2)
    async with running_broadcaster(flaky) as broadcaster, broadcaster.subscribe(AlertFilter()) as subscription:
        taken(subscription)
        change(flaky, "a", 1)
        broadcaster.mark_changed("a,b,c")
        await subscription.wait()
        assert (taken(subscription), flaky.reads) == ([("a", 1)], 2)


async def test_the_stream_of_a_slow_watcher_is_ended_with_a_hint(flaky: Flaky) -> None:
    async with running_broadcaster(flaky, max_resolved=1) as broadcaster, broadcaster.subscribe(AlertFilter()) as slow:
        for name in "ab":
            change(flaky, name, 1, AlertState.RESOLVED)
        broadcaster.mark_changed("a,b")
        await slow.wait()
        with pytest.raises(Overloaded) as refused:
            slow.next()
        assert refused.value.retry_after is not None


async def test_streams_are_ended_when_the_instance_stops(flaky: Flaky) -> None:
    alerts, rules = AlertBroadcaster(FlakyAlerts(flaky)), RuleBroadcaster(FlakyRules(flaky))
    async with alerts.subscribe(AlertFilter()) as subscription:
        waiting = [asyncio.create_task(subscription.wait()), asyncio.create_task(rules.after(rules.current.version))]
        await asyncio.sleep(0)
        alerts.close()
        rules.close()
        for task in waiting:
            with pytest.raises(ShuttingDown):
                await task
    with pytest.raises(ShuttingDown):
        async with alerts.subscribe(AlertFilter()):
            pass


async def test_rules_that_could_not_be_read_are_read_again(flaky: Flaky) -> None:
    broadcaster = RuleBroadcaster(FlakyRules(flaky))
    await broadcaster.refresh()
    before = broadcaster.current.version
    flaky.store.tables.revision = 5
    flaky.failures = 1
    loop = Loop(
        broadcaster.refresh,
        name="rules",
        every=RULE_REFRESH_INTERVAL,
        backoff=Backoff(max_delay=timedelta(milliseconds=1)),
    )
    running = asyncio.create_task(loop.run())
    async with asyncio.timeout(5):
        assert (await broadcaster.after(before)).revision == 5
    await ended(running)
