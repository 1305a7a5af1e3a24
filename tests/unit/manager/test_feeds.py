"""What those who follow rules and alerts are given when something goes wrong in between."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta

import pytest

from services.chassis.backoff import Backoff
from services.chassis.failures import Overloaded, ShuttingDown, StoreUnavailable
from services.chassis.loops import Loop
from services.domain.alert import Life, State
from services.manager.adapters.feeds import alerts as alert_feed
from services.manager.adapters.feeds.alerts import AlertHub
from services.manager.adapters.feeds.rules import LOOK, RuleHub
from services.manager.core.alert import Alert
from services.manager.core.queries.filters import AlertFilter
from services.manager.ports.queries import Following
from tests.fakes.manager import MemoryAlertReader, MemoryRuleReader, MemoryStore
from tests.unit.manager.stories import NOW, START, subject, word
from tocsin.alerts.v1.alert_service_pb2 import WatchAlertsResponse


class Flaky:
    """A store whose readers fail as often as they are told to."""

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

    async def named(self, alert_ids: Sequence[str]) -> Sequence[Alert]:
        self._flaky.ask()
        return await super().named(alert_ids)

    async def open(self, wanted: AlertFilter) -> Sequence[Alert]:
        self._flaky.ask()
        self._flaky.reads += 1
        return await super().open(wanted)


class FlakyRules(MemoryRuleReader):
    def __init__(self, flaky: Flaky) -> None:
        super().__init__(flaky.store)
        self._flaky = flaky

    async def version(self) -> str:
        self._flaky.ask()
        return await super().version()


def alert(name: str) -> Alert:
    life = Life(state=State.FIRING, last_firing=word().verdict)
    return Alert(id=name, subject=subject(name), life=life, fire_time=START, update_time=NOW)


@pytest.fixture
def flaky() -> Flaky:
    found = Flaky()
    found.store.kept.alerts = {name: alert(name) for name in "abc"}
    return found


async def ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def taken(following: Following) -> list[tuple[str, int]]:
    found = []
    while (raw := following.take()) is not None:
        sent = WatchAlertsResponse.FromString(raw).alert
        found.append((sent.id, sent.repeat_count))
    return found


def change(flaky: Flaky, name: str, repeats: int, state: State = State.FIRING) -> None:
    life = Life(state=state, last_firing=word().verdict, repeat_count=repeats)
    flaky.store.kept.alerts[name] = replace(alert(name), life=life, version=1 + repeats)


@asynccontextmanager
async def running_hub(flaky: Flaky, limit: int = 10) -> AsyncIterator[AlertHub]:
    hub = AlertHub(FlakyAlerts(flaky), limit=limit)
    loop = Loop(hub.turn, name="alerts", backoff=Backoff(max_delay=timedelta(milliseconds=1)))
    running = asyncio.create_task(loop.run())
    yield hub
    await ended(running)


async def test_who_follows_is_sent_the_open_ones_and_each_change(flaky: Flaky) -> None:
    async with running_hub(flaky) as hub:
        hub.wake("a")
        async with hub.following(AlertFilter(resource="b")) as following:
            assert hub.followers == 1
            assert taken(following) == [("b", 0)]
            change(flaky, "b", 1)
            hub.wake("a,b")
            await following.wait()
            assert taken(following) == [("b", 1)]
        assert hub.followers == 0


async def test_the_open_alerts_are_read_and_encoded_once_for_all_who_follow(flaky: Flaky) -> None:
    async with running_hub(flaky) as hub, AsyncExitStack() as stack:
        many = [await stack.enter_async_context(hub.following(AlertFilter())) for _ in range(200)]
        assert flaky.reads == 1
        firsts = [following.take() for following in many]
        assert len({id(first) for first in firsts}) == 1
    async with running_hub(flaky) as hub, hub.following(AlertFilter()):
        assert flaky.reads == 2


async def test_changes_that_were_missed_or_could_not_be_read_are_found_by_looking(flaky: Flaky) -> None:
    async with running_hub(flaky) as hub, hub.following(AlertFilter()) as following:
        taken(following)
        change(flaky, "a", 1)
        flaky.failures = 2
        hub.wake("a")
        await following.wait()
        assert taken(following) == [("a", 1)]
        change(flaky, "b", 2, State.RESOLVED)
        del flaky.store.kept.alerts["c"]
        change(flaky, "d", 3)
        hub.missed()
        await following.wait()
        assert taken(following) == [("d", 3), ("b", 2)]


async def test_who_cannot_be_sent_the_open_ones_is_refused(flaky: Flaky) -> None:
    hub = AlertHub(FlakyAlerts(flaky))
    flaky.failures = 1
    with pytest.raises(StoreUnavailable):
        async with hub.following(AlertFilter()):
            pass
    async with hub.following(AlertFilter()) as following:
        assert len(taken(following)) == 3


async def test_too_many_changes_at_once_are_found_by_looking(flaky: Flaky, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alert_feed, "_MOST_CHANGED", 2)
    async with running_hub(flaky) as hub, hub.following(AlertFilter()) as following:
        taken(following)
        change(flaky, "a", 1)
        hub.wake("a,b,c")
        await following.wait()
        assert (taken(following), flaky.reads) == ([("a", 1)], 2)


async def test_one_that_is_too_slow_is_sent_away_with_a_hint(flaky: Flaky) -> None:
    async with running_hub(flaky, limit=1) as hub, hub.following(AlertFilter()) as slow:
        for name in "ab":
            change(flaky, name, 1, State.RESOLVED)
        hub.wake("a,b")
        await slow.wait()
        with pytest.raises(Overloaded) as refused:
            slow.take()
        assert refused.value.retry_after is not None


async def test_who_follows_is_sent_away_when_the_instance_stops(flaky: Flaky) -> None:
    alerts, rules = AlertHub(FlakyAlerts(flaky)), RuleHub(FlakyRules(flaky))
    async with alerts.following(AlertFilter()) as following:
        waiting = [asyncio.create_task(following.wait()), asyncio.create_task(rules.after(rules.current.version))]
        await asyncio.sleep(0)
        alerts.close()
        rules.close()
        for task in waiting:
            with pytest.raises(ShuttingDown):
                await task
    with pytest.raises(ShuttingDown):
        async with alerts.following(AlertFilter()):
            pass


async def test_rules_that_could_not_be_read_are_read_again(flaky: Flaky) -> None:
    hub = RuleHub(FlakyRules(flaky))
    await hub.load()
    before = hub.current.version
    flaky.store.kept.revision = 5
    flaky.failures = 1
    loop = Loop(hub.load, name="rules", every=LOOK, backoff=Backoff(max_delay=timedelta(milliseconds=1)))
    running = asyncio.create_task(loop.run())
    async with asyncio.timeout(5):
        assert (await hub.after(before)).revision == 5
    await ended(running)
